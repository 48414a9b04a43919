use super::ConfigError;
use super::values::Values;

/// The part of a server's work that one instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Calls, sockets and background work.
    All,
    /// Calls and sockets; an instance of another role does the background work.
    Api,
    /// Background work, health checks and metrics.
    Worker,
}

impl Role {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        values.one_of("SERVER_ROLE", &[Self::All, Self::Api, Self::Worker].map(|role| (role.name(), role)))
    }

    /// The value of `SERVER_ROLE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }

    /// Whether the instance answers calls and holds sockets.
    pub const fn serves_calls(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }

    /// Whether the instance does the work that one instance does for all.
    pub const fn does_background_work(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }
}
