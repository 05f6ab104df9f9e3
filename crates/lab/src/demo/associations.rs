//! The SAs of the demo: added by direct OIDs, used by the transport, deleted with linked lists.

use ndis_lab::Adapter;
use ndis_lab::Oid;
use ndis_lab::ipsec_v2::{self, DeleteSaList, handle_of_add_sa_ex};
use ndis_lab::transport::{Direction, OutboundSa, Receiver, TransportSa};
use ndis_sys::{NDIS_STATUS_SUCCESS, OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX};

use super::StepError;
use super::plan::{PlannedSa, Station};
use super::report::{Association, Report};
use super::stations::{Stations, expect};

/// Handles in one DELETE_SA list.
const HANDLES_PER_LIST: usize = 64;
/// The pair whose SAs go to the adapters as an ADD_SA list; all others go by ADD_SA_EX.
const LISTED_PAIR: usize = 0;

/// All SAs, by their number in the plan.
pub(super) struct Associations {
    pub(super) sas: Vec<PlannedSa>,
    /// The sender's half of each.
    pub(super) outbound: Vec<OutboundSa>,
    /// The receiver's halves, by station.
    pub(super) receivers: [Receiver; 2],
    /// Handles that each station holds.
    handles: [Vec<usize>; 2],
}

/// What deletion took.
pub(super) struct Deleted {
    pub(super) handles: usize,
    pub(super) lists: usize,
}

impl Associations {
    /// Adds every SA on both adapters: outbound where it is sent, inbound where it is received.
    pub(super) fn add(
        stations: &Stations,
        sas: Vec<PlannedSa>,
        random: &mut fastrand::Rng,
        report: &mut Report,
    ) -> Result<Self, StepError> {
        let mut receivers = [Receiver::default(), Receiver::default()];
        let mut handles = [Vec::new(), Vec::new()];
        let mut outbound_handles = vec![0; sas.len()];
        let pairs = sas.last().map_or(0, |sa| sa.pair + 1);
        for station in Station::BOTH {
            let adapter = stations.adapter(station);
            // If it is the only pair, one adapter shows the list and the other one ADD_SA_EX.
            let listed = |sa: &PlannedSa| sa.pair == LISTED_PAIR && (pairs > 1 || station == Station::One);
            let direction =
                |sa: &PlannedSa| if sa.sender == station { Direction::Outbound } else { Direction::Inbound };
            let list: Vec<usize> = (0..sas.len()).filter(|index| listed(&sas[*index])).collect();
            let mut added = vec![0; sas.len()];
            let parameters: Vec<_> =
                list.iter().map(|index| sas[*index].parameters.parameters(direction(&sas[*index]))).collect();
            for (index, handle) in list.iter().zip(add_list(adapter, &parameters)?) {
                added[*index] = handle;
            }
            for (index, sa) in sas.iter().enumerate() {
                if !listed(sa) {
                    added[index] = add_one(adapter, &sa.parameters, direction(sa), random)?;
                }
                match direction(sa) {
                    Direction::Outbound => outbound_handles[index] = added[index],
                    Direction::Inbound => receivers[station.index()].add(sa.parameters.clone()),
                }
            }
            let mut distinct = added.clone();
            distinct.sort_unstable();
            distinct.dedup();
            if distinct.len() != added.len() {
                return Err(StepError::Driver(format!("{} gave one handle to two SAs", adapter.id())));
            }
            handles[station.index()] = added;
        }
        report.associations = sas.iter().map(|sa| association(sa, pairs)).collect();
        let outbound = sas
            .iter()
            .zip(outbound_handles)
            .map(|(sa, handle)| OutboundSa::new(sa.parameters.clone(), handle, random.u64(..)))
            .collect();
        Ok(Self { sas, outbound, receivers, handles })
    }

    /// Deletes every SA on both adapters, in lists, in random order.
    pub(super) fn delete(
        &mut self,
        stations: &Stations,
        random: &mut fastrand::Rng,
    ) -> Result<Deleted, StepError> {
        let mut deleted = Deleted { handles: 0, lists: 0 };
        for station in Station::BOTH {
            let handles = &mut self.handles[station.index()];
            random.shuffle(handles);
            for chunk in handles.chunks(HANDLES_PER_LIST) {
                let request = DeleteSaList::new(chunk)?.request();
                expect(stations.adapter(station), request.at_dispatch(), "DELETE_SA")?;
                deleted.lists += 1;
                deleted.handles += chunk.len();
            }
        }
        Ok(deleted)
    }
}

fn association(sa: &PlannedSa, pairs: usize) -> Association {
    let listed = sa.pair == LISTED_PAIR && (pairs > 1 || sa.sender == Station::One);
    Association {
        source: sa.parameters.source.to_string(),
        destination: sa.parameters.destination.to_string(),
        spi: format!("{:#010x}", sa.parameters.spi),
        algorithm: sa.parameters.algorithm.name(),
        sender: sa.sender.number(),
        receiver: sa.sender.other().number(),
        packets: 0,
        added_by: if listed { "ADD_SA" } else { "ADD_SA_EX" },
    }
}

/// ADD_SA_EX; at PASSIVE_LEVEL or DISPATCH_LEVEL, as direct requests may come.
fn add_one(
    adapter: &Adapter,
    sa: &TransportSa,
    direction: Direction,
    random: &mut fastrand::Rng,
) -> Result<usize, StepError> {
    let buffer = sa.parameters(direction).add_sa_ex();
    let mut request = Oid::set(OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX, buffer).direct();
    if random.bool() {
        request = request.at_dispatch();
    }
    let outcome = adapter.oid(request)?;
    match (outcome.status, handle_of_add_sa_ex(&outcome.buffer)) {
        (NDIS_STATUS_SUCCESS, Some(handle)) => Ok(handle),
        (status, handle) => Err(refused(adapter, "ADD_SA_EX", status, handle)),
    }
}

/// ADD_SA: all of a list have to be taken.
fn add_list(adapter: &Adapter, sas: &[ipsec_v2::SaParameters]) -> Result<Vec<usize>, StepError> {
    if sas.is_empty() {
        return Ok(Vec::new());
    }
    let (outcome, handles) = adapter.add_sa_list(sas)?;
    let all: Option<Vec<usize>> = handles.iter().copied().collect();
    match (outcome.status, all) {
        (NDIS_STATUS_SUCCESS, Some(handles)) => Ok(handles),
        (status, _) => Err(refused(adapter, "ADD_SA", status, handles.into_iter().flatten().next())),
    }
}

fn refused(adapter: &Adapter, name: &str, status: i32, handle: Option<usize>) -> StepError {
    let (status, handle) = (status.cast_unsigned(), handle.unwrap_or(0));
    StepError::Driver(format!("{}: {name} ended with {status:#010x} and handle {handle:#x}", adapter.id()))
}
