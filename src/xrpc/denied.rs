//! Refusals of a proven caller, whatever the method. Invariant: the server answers one after the proof, never before.

use crate::types::Did;

/// Why an authenticated caller is refused: 403. The texts are safe to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this account is suspended on this server; ask its operator")]
    AccountSuspended,
    #[error("the account's DID document names the server {0}; call that one, or change the document")]
    AccountHomeElsewhere(Did),
    #[error("certified devices of this server's operators alone may call this")]
    NotOperator,
    #[error(
        "the account's device chain began anew, and OPERATOR_DEVICES does not name this device; set it on the server"
    )]
    OperatorDeviceUnknown,
}

impl Denied {
    /// The error name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AccountSuspended => "AccountSuspended",
            Self::AccountHomeElsewhere(_) => "AccountHomeElsewhere",
            Self::NotOperator => "NotOperator",
            Self::OperatorDeviceUnknown => "OperatorDeviceUnknown",
        }
    }
}
