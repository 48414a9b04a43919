//! Rights of roles over other members, as pure functions.

use std::collections::HashMap;

use crate::log::Roster;
use crate::log::body::Role;
use crate::types::{Detail, DeviceId, Did, Epoch, Refusal};

/// Any member may invite any account. A member may remove its own devices, devices of accounts that left, and, as an
/// admin, any device.
pub(super) fn judge_rights(roster: &Roster, caller: &Did, removes: &[(Did, DeviceId)]) -> Result<(), Refusal> {
    let is_admin = roster.seats.get(caller).is_some_and(|seat| seat.role == Role::Admin);
    let may_remove = |account: &Did| is_admin || account == caller || !roster.seats.contains_key(account);
    if removes.iter().all(|(account, _)| may_remove(account)) {
        Ok(())
    } else {
        Err(Refusal::new("NotAuthorized", "only an admin removes the devices of another member"))
    }
}

/// No account has more than `max` devices in a conversation.
pub(super) fn judge_devices<'a>(accounts: impl Iterator<Item = &'a Did>, max: usize) -> Result<(), Refusal> {
    let mut devices: HashMap<&Did, usize> = HashMap::new();
    for account in accounts {
        *devices.entry(account).or_default() += 1;
    }
    if devices.values().all(|&count| count <= max) {
        Ok(())
    } else {
        let detail = Detail::new(format!("an account has {max} devices at most in this conversation"));
        Err(Refusal::new("TooManyDevices", detail.with("maxDevices", max)))
    }
}

/// Another commit won the epoch while this commit was validated.
pub(super) fn stale(current: Epoch) -> Refusal {
    let detail = Detail::new(format!("the group is at epoch {current}; fetch what happened, and commit again"));
    Refusal::new("StaleEpoch", detail.with("currentEpoch", current.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::RosterSeat;
    use crate::types::Seq;

    fn did(name: &str) -> Did {
        Did::parse(&format!("did:plc:{name}")).unwrap()
    }

    fn roster() -> Roster {
        let seat = |role| RosterSeat { from: Seq(1), role, server: String::new() };
        let mut roster = Roster::default();
        roster.seats.insert(did("admin"), seat(Role::Admin));
        roster.seats.insert(did("member"), seat(Role::Member));
        roster.seats.insert(did("other"), seat(Role::Member));
        roster
    }

    #[test]
    fn a_member_removes_itself_and_those_who_left_and_nobody_else() {
        let device = DeviceId::of_key(b"key");
        for (caller, target, allowed) in [
            ("member", "member", true),
            ("member", "gone", true),
            ("member", "other", false),
            ("member", "admin", false),
            ("admin", "other", true),
        ] {
            let judged = judge_rights(&roster(), &did(caller), &[(did(target), device.clone())]);
            assert_eq!(judged.is_ok(), allowed, "{caller} removes {target}");
        }
    }

    #[test]
    fn devices_are_counted_by_account() {
        let accounts = [did("member"), did("member"), did("other")];
        assert!(judge_devices(accounts.iter(), 2).is_ok());
        assert_eq!(judge_devices(accounts.iter(), 1).unwrap_err().name, "TooManyDevices");
    }
}
