//! Who a leaf says it is. The identity of a basic credential is the account's DID, or `<did>#<device>`.

use crate::types::{DeviceId, Did};

pub use rookery_protocol::identity::leaf_identity as identity;

/// Whether `claimed` names this device of this account. A bare DID does: Catbird's clients know no device ids.
pub(super) fn names(claimed: &[u8], account: &Did, device: &DeviceId) -> bool {
    claimed == account.as_str().as_bytes() || claimed == identity(account, device).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_the_did_or_the_did_and_this_device() {
        let account = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap();
        let (mine, other) = (DeviceId::of_key(&[1; 32]), DeviceId::of_key(&[2; 32]));
        assert!(names(account.as_str().as_bytes(), &account, &mine));
        assert!(names(identity(&account, &mine).as_bytes(), &account, &mine));
        assert!(!names(identity(&account, &other).as_bytes(), &account, &mine));
        assert!(!names(format!("{account}#").as_bytes(), &account, &mine));
        assert!(!names(b"", &account, &mine));
    }
}
