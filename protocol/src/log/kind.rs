//! Kinds of streams and entries: the names of the wire, and the numbers that Postgres keeps.
//!
//! Invariant: every entry has the name of its kind, known to this version or not. A kind of a later version has no
//! number: Postgres stores its name, so that no row changes its meaning when a server is upgraded or rolled back.

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    Convo,
    Account,
}

impl StreamKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Convo => "convo",
            Self::Account => "account",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Convo, Self::Account].into_iter().find(|kind| kind.name() == name)
    }

    pub const fn to_db(self) -> i16 {
        match self {
            Self::Convo => 1,
            Self::Account => 2,
        }
    }

    pub const fn from_db(value: i16) -> Option<Self> {
        match value {
            1 => Some(Self::Convo),
            2 => Some(Self::Account),
            _ => None,
        }
    }
}

/// Kinds of protocol version 1 with their numbers, then later kinds, each with the cargo feature that it is of.
macro_rules! entry_kinds {
    (
        $($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*
        => $($(#[$later_doc:meta])* $later:ident, $later_name:literal, $feature:literal;)*
    ) => {
        /// A kind of entry that this version knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EntryKind {
            $($(#[$doc])* $variant,)*
            $($(#[$later_doc])* #[cfg(feature = $feature)] $later,)*
        }

        impl EntryKind {
            pub const ALL: &'static [Self] =
                &[$(Self::$variant,)* $(#[cfg(feature = $feature)] Self::$later,)*];

            /// As in the header and on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    $(#[cfg(feature = $feature)] Self::$later => $later_name,)*
                }
            }

            pub const fn to_db(self) -> i16 {
                match self {
                    $(Self::$variant => $number,)*
                    $(#[cfg(feature = $feature)] Self::$later => BY_NAME,)*
                }
            }

            pub const fn from_db(value: i16) -> Option<Self> {
                match value { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

entry_kinds! {
    /// The first entry of every stream; its body is the genesis.
    Opened = 1, "#opened";
    /// What a conversation is: group id, suite, policies.
    Convo = 2, "#convo";
    /// A change of a seat that no commit makes.
    Membership = 3, "#membership";
    /// An application message: exactly one MLSMessage.
    Message = 4, "#message";
    /// An MLS commit with the seats that it changes.
    Commit = 5, "#commit";
    /// A device of the account was registered, certified or revoked; or one of another account, which has a leaf in a
    /// conversation of this one, was revoked.
    Device = 6, "#device";
    /// A commit elsewhere invited a device of this account.
    Welcome = 7, "#welcome";
    /// Contents of earlier entries are to be dropped, wherever they are held.
    Erased = 8, "#erased";
    /// What stands between the account and another one changed.
    Relationship = 14, "#relationship";
    /// The account was brought into a conversation, and may take it or not.
    Invitation = 15, "#invitation";
    /// A device's pool of key packages is low, or was taken back: publish new ones.
    KeyPackagesLow = 20, "#keyPackagesLow";
    /// The last entry of a home's reign: it hands the stream to another server.
    HomeChanged = 23, "#homeChanged";
    /// Another server begins its reign over the stream, after a move.
    HomeOpened = 21, "#homeOpened";
    /// The home goes on after a restore, from the entry before: what it ordered beyond that is lost.
    HomeRestored = 22, "#homeRestored";
    /// The account, or one that shares a stream with it, began a new device chain.
    DeviceChainReset = 12, "#deviceChainReset";
    /// The account was suspended, or may call again.
    Account = 13, "#account";
    /// The home of a conversation said two things about one number.
    ForkDetected = 30, "#forkDetected";
    /// The home of a conversation went back behind what this server holds.
    HistoryRewound = 31, "#historyRewound";
    /// The home promised the account an entry, and did not keep it.
    ReceiptBroken = 32, "#receiptBroken";
    /// A server with members in a conversation of the account shows a key that none of its earlier keys endorsed.
    PeerKeyChanged = 33, "#peerKeyChanged";

    =>
    /// A text that changes nothing.
    Note, "#note", "next-version";
}

impl EntryKind {
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether protocol version 1 lacks this kind: a server may not know the kind, and Postgres stores its name.
    pub const fn is_later(self) -> bool {
        self.to_db() == BY_NAME
    }

    /// Whether an entry of this kind begins a term.
    pub const fn opens_term(self) -> bool {
        matches!(self, Self::HomeOpened | Self::HomeRestored)
    }

    /// Whether an entry of this kind can change who is seated.
    pub const fn changes_seats(self) -> bool {
        matches!(self, Self::Commit | Self::Membership)
    }

    /// Whether an entry of this kind can come with a seat that its account took just now.
    pub const fn may_show_seats(self) -> bool {
        matches!(self, Self::Invitation | Self::Welcome)
    }

    /// Whether an entry of this kind can take a device's right to listen.
    pub const fn may_silence(self) -> bool {
        matches!(self, Self::Device | Self::Account)
    }
}

/// Bytes of the longest name of a kind.
const NAME_BYTES: usize = 64;
/// The number of every kind that is stored by name.
const BY_NAME: i16 = 0;

/// The kind that a header names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamedKind {
    Known(EntryKind),
    /// A kind of a later version: its entry is verified, stored and shown, and changes nothing.
    Unknown(String),
}

impl NamedKind {
    /// `None` for a text that is no name of a kind: `#` and up to 63 ASCII letters or digits.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(kind) = EntryKind::from_name(name) {
            return Some(Self::Known(kind));
        }
        let rest = name.strip_prefix('#')?;
        let is_name = !rest.is_empty() && name.len() <= NAME_BYTES && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        is_name.then(|| Self::Unknown(name.to_owned()))
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Known(kind) => kind.name(),
            Self::Unknown(name) => name,
        }
    }

    pub fn known(&self) -> Option<EntryKind> {
        match self {
            Self::Known(kind) => Some(*kind),
            Self::Unknown(_) => None,
        }
    }

    /// The number that Postgres stores.
    pub fn to_db(&self) -> i16 {
        self.known().map_or(BY_NAME, EntryKind::to_db)
    }

    /// The name that Postgres stores beside the number, for kinds without a number.
    pub fn db_name(&self) -> Option<&str> {
        match self {
            Self::Known(kind) => kind.is_later().then(|| kind.name()),
            Self::Unknown(name) => Some(name),
        }
    }
}

impl From<EntryKind> for NamedKind {
    fn from(kind: EntryKind) -> Self {
        Self::Known(kind)
    }
}

impl PartialEq<EntryKind> for NamedKind {
    fn eq(&self, kind: &EntryKind) -> bool {
        self.known() == Some(*kind)
    }
}

#[cfg(test)]
mod tests {
    use super::{EntryKind, NamedKind};

    #[test]
    fn a_name_of_a_later_kind_is_kept_as_text() {
        let later = NamedKind::from_name("#poll2").unwrap();
        assert_eq!((later.name(), later.known(), later.to_db(), later.db_name()), ("#poll2", None, 0, Some("#poll2")));
        let known = NamedKind::from_name("#commit").unwrap();
        assert_eq!((known.known(), known.to_db(), known.db_name()), (Some(EntryKind::Commit), 5, None));
        assert!(EntryKind::from_db(0).is_none(), "no kind has the number of those that have none");
        for no_name in ["", "#", "poll", "#two words", "#p\0", &format!("#{}", "x".repeat(64))] {
            assert_eq!(NamedKind::from_name(no_name), None, "{no_name:?}");
        }
    }

    #[test]
    fn numbers_and_names_lead_back_to_the_kind() {
        for &kind in EntryKind::ALL {
            assert_eq!(EntryKind::from_db(kind.to_db()), Some(kind).filter(|kind| !kind.is_later()));
            assert_eq!(EntryKind::from_name(kind.name()), Some(kind));
        }
    }
}
