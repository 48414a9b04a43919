//! What a stream's row says of it beside its head.

/// Whether a stream takes new entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    Active,
    /// Entries that were lost are being put back: nothing new is ordered.
    Recovering,
}

impl StreamState {
    pub const fn to_db(self) -> i16 {
        match self {
            Self::Active => 0,
            Self::Recovering => 1,
        }
    }

    pub const fn from_db(value: i16) -> Option<Self> {
        match value {
            0 => Some(Self::Active),
            1 => Some(Self::Recovering),
            _ => None,
        }
    }
}
