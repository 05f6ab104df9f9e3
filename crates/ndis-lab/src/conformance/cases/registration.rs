//! DriverEntry: what it registers, and what it does when it cannot.

use ndis_sys::{NDIS_MINIPORT_DRIVER_CHARACTERISTICS, NDIS_STATUS_RESOURCES};

use crate::conformance::context::Context;
use crate::conformance::{Case, Outcome, check};
use crate::error::LabError;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 1,
        id: "driver-entry",
        area: "GenericMiniportRequirements",
        title: "DriverEntry registers an NDIS 6 miniport with all mandatory handlers, and unloads again.",
        page: "nf-ndis-ndismregisterminiportdriver",
        needs: &[],
        run: driver_entry,
    },
    Case {
        number: 1,
        id: "driver-entry-fails",
        area: "1c_FaultHandling",
        title: "When registration or an allocation fails, DriverEntry returns the status and leaves nothing behind.",
        page: "nf-ndis-ndismregisterminiportdriver",
        needs: &[],
        run: driver_entry_fails,
    },
    Case {
        number: 2,
        id: "handlers-in-pairs",
        area: "GenericMiniportRequirements",
        title: "Optional handlers are registered in pairs.",
        page: "ns-ndis-_ndis_miniport_driver_characteristics",
        needs: &[],
        run: handlers_in_pairs,
    },
];

fn driver_entry(context: &Context) -> Outcome {
    let driver = context.driver()?;
    let registered = driver.registered();
    check!(registered.is_some(), "DriverEntry succeeded and registered nothing");
    drop(driver);
    context.take_down()?;
    // Once more on the same machine: unloading left nothing that is in the way.
    context.load()?;
    Ok(())
}

fn driver_entry_fails(context: &Context) -> Outcome {
    for skip in 0..1000 {
        let machine = context.another();
        machine.lab.fail_after(skip);
        let result = machine.load();
        let reached = machine.lab.fault_points() > skip;
        machine.lab.clear_faults();
        match result {
            Ok(_) | Err(LabError::DriverEntry(_)) => {}
            Err(error) => return Err(error.into()),
        }
        machine.finish()?;
        if !reached {
            break;
        }
    }
    let machine = context.another();
    machine.lab.set_faults(|point| point.function == "NdisMRegisterMiniportDriver");
    let result = machine.load();
    let status = NDIS_STATUS_RESOURCES.cast_unsigned();
    check!(
        matches!(result, Err(LabError::DriverEntry(returned)) if returned == status),
        "NdisMRegisterMiniportDriver failed with {status:#010x}, and DriverEntry ended with: {}",
        result.map_or_else(|error| error.to_string(), |_| "success".into())
    );
    drop(result);
    machine.finish()
}

fn handlers_in_pairs(context: &Context) -> Outcome {
    let registered = context.driver()?.registered();
    let Some(NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
        DirectOidRequestHandler: direct,
        CancelDirectOidRequestHandler: cancel,
        CheckForHangHandlerEx: check_for_hang,
        ResetHandlerEx: reset,
        ..
    }) = registered.map(|registered| registered.characteristics)
    else {
        return Ok(());
    };
    check!(direct.is_some() == cancel.is_some(), "one of the direct OID handlers is NULL, the other is not");
    check!(reset.is_some() || check_for_hang.is_none(), "CheckForHangHandlerEx without ResetHandlerEx");
    Ok(())
}
