//! The state of a stream in its row, besides its head.
//!
//! Invariant: a stream takes new entries while it is active, and in no other state; nothing thaws by itself. Which server
//! orders it is not a state: the row names the home, and a stream that went to another one is a replica here.

/// Whether a stream takes new entries, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    Active,
    /// Entries that were lost are being put back: nothing new is ordered.
    Recovering,
    /// An entry requires a feature that this version lacks. No row stores this state: a row names the required
    /// features, and each version compares them with its own.
    NeedsNewerVersion,
    /// The stream is moving from one home to another: for half a minute at most, on either side.
    Handing,
    /// The home made contradicting statements, or lost entries: members go on by a reset.
    Frozen,
    /// A new stream has taken its place.
    Closed,
}

impl StreamState {
    const ALL: [Self; 6] =
        [Self::Active, Self::Recovering, Self::Handing, Self::NeedsNewerVersion, Self::Frozen, Self::Closed];

    pub const fn to_db(self) -> i16 {
        match self {
            Self::Active => 0,
            Self::Recovering => 1,
            Self::Handing => 2,
            Self::NeedsNewerVersion => 3,
            Self::Frozen => 4,
            Self::Closed => 5,
        }
    }

    pub fn from_db(value: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.to_db() == value)
    }

    /// Whether it may become `next`.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Active => matches!(next, Self::Handing | Self::Frozen | Self::Recovering | Self::Closed),
            Self::Handing => matches!(next, Self::Active),
            Self::Recovering => matches!(next, Self::Active | Self::Frozen),
            Self::Frozen => matches!(next, Self::Closed),
            Self::Closed | Self::NeedsNewerVersion => false,
        }
    }

    /// The name by which a write is refused; none while it is taken.
    pub const fn refuses(self) -> Option<&'static str> {
        match self {
            Self::Active => None,
            Self::Recovering => Some("HomeRecovering"),
            Self::Handing => Some("HomeMoving"),
            Self::NeedsNewerVersion => Some("NewerVersionNeeded"),
            Self::Frozen | Self::Closed => Some("StreamFrozen"),
        }
    }

    /// Whether the state is permanent, so that a caller waits in vain.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Frozen | Self::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::StreamState;

    #[test]
    fn what_is_stored_leads_back_to_the_state_and_only_an_active_stream_takes_entries() {
        for state in StreamState::ALL {
            assert_eq!(StreamState::from_db(state.to_db()), Some(state));
            assert_eq!(state.refuses().is_none(), state == StreamState::Active);
            assert!(!state.may_become(state));
            // What is over never takes an entry again.
            assert!(!state.is_over() || !state.may_become(StreamState::Active));
        }
        assert_eq!(StreamState::from_db(9), None);
    }
}
