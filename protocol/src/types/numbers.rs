use serde::{Deserialize, Serialize};

use super::Malformed;

/// The greatest integer that AT Protocol numbers may hold: 2^53 − 1.
pub const MAX_SAFE: u64 = (1 << 53) - 1;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// As Postgres stores it. Every value is below 2^53.
            pub fn to_db(self) -> i64 {
                i64::try_from(self.0).unwrap_or(i64::MAX)
            }

            /// From a column that holds no negative number.
            pub fn from_db(value: i64) -> Self {
                Self(u64::try_from(value).unwrap_or(0))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// An entry's number within its stream: 1, 2, 3 … without gaps.
    Seq
}
number! {
    /// One reign of a home over a stream; the first is the founding time in whole seconds.
    Term
}
number! {
    /// An MLS epoch (RFC 9420 section 7).
    Epoch
}
number! {
    /// A position in the merged order of all streams on this server. A decimal string on the wire.
    Cursor
}

impl Cursor {
    /// Reads a client's cursor: decimal digits, below 2^53.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let digits = !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(value) if digits && value <= MAX_SAFE => Ok(Self(value)),
            _ => Err(Malformed::new("cursor", "expected a decimal number below 2^53")),
        }
    }
}

/// Unix time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    pub fn to_datetime(self) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    /// RFC 3339, UTC, with milliseconds: the form of every time on the wire.
    pub fn to_rfc3339(self) -> String {
        self.to_datetime().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    }
}

impl From<chrono::DateTime<chrono::Utc>> for UnixMillis {
    fn from(time: chrono::DateTime<chrono::Utc>) -> Self {
        Self(time.timestamp_millis())
    }
}
