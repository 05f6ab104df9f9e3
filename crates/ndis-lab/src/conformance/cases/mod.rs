//! The cases, by area.

mod devices;
mod filters;
mod initialization;
mod ipsec;
mod offload;
mod oids;
mod power;
mod receiving;
mod registration;
mod sending;
mod states;
mod statistics;
mod tasks;

use super::Case;

/// All cases, by number.
pub(super) fn all() -> Vec<&'static Case> {
    let mut cases: Vec<&'static Case> = [
        registration::CASES,
        initialization::CASES,
        states::CASES,
        power::CASES,
        oids::CASES,
        filters::CASES,
        statistics::CASES,
        sending::CASES,
        receiving::CASES,
        offload::CASES,
        tasks::CASES,
        ipsec::CASES,
        devices::CASES,
    ]
    .into_iter()
    .flatten()
    .collect();
    cases.sort_by_key(|case| case.number);
    cases
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn names_are_unique_and_every_case_names_a_page() {
        let cases = all();
        let mut ids: Vec<_> = cases.iter().map(|case| case.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), cases.len());
        for case in cases {
            assert!(
                case.page.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
                "{}",
                case.page
            );
            assert!(case.title.ends_with('.') && !case.area.is_empty(), "{}", case.id);
        }
    }
}
