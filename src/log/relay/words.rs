//! Signals between instances, as text, because NOTIFY takes only text.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::log::Signal;

/// The most bytes of one signal. NOTIFY takes 8,000.
const WORD_BYTES: usize = 7_000;

/// An ephemeral signal on its way to the sockets of an account.
#[derive(Clone, Debug)]
pub(in crate::log) struct Carried {
    pub account_id: i64,
    /// The device that caused it, which knows already.
    pub except: Option<i64>,
    pub stream: String,
    pub signal: Arc<Signal>,
}

#[derive(Clone, Debug)]
pub(super) enum Word {
    /// Entries up to this position were committed.
    Look(i64),
    Signal(Carried),
    /// The account lost its right to listen: its sockets end at once.
    Close(i64),
    /// Work for background workers was committed.
    Work,
    /// Said to oneself, to find out whether the way carries.
    Hello,
}

impl Carried {
    /// Whether the signal is small enough to be sent.
    pub(in crate::log) fn fits(&self) -> bool {
        let encoded = |bytes: usize| bytes.div_ceil(3) * 4;
        let forms = encoded(self.signal.bytes.len()) + encoded(self.signal.text.len());
        forms + self.stream.len() + self.signal.kind.len() + 128 <= WORD_BYTES
    }
}

impl Word {
    pub(super) fn write(&self, replica: &str) -> String {
        match self {
            Self::Look(pos) => format!("{replica} look {pos}"),
            Self::Close(account_id) => format!("{replica} close {account_id}"),
            Self::Work => format!("{replica} work"),
            Self::Hello => format!("{replica} hello"),
            Self::Signal(Carried { account_id, except, stream, signal }) => {
                let except = except.unwrap_or_default();
                let (bytes, text) = (STANDARD_NO_PAD.encode(&signal.bytes), STANDARD_NO_PAD.encode(&signal.text));
                format!("{replica} signal {account_id} {except} {stream} {} {bytes} {text}", signal.kind)
            }
        }
    }

    /// The sender and the signal. `None` for an unreadable text: a newer instance may send more kinds.
    pub(super) fn read(text: &str) -> Option<(&str, Self)> {
        let mut parts = text.split(' ');
        let (replica, verb) = (parts.next()?, parts.next()?);
        let word = match verb {
            "look" => Self::Look(parts.next()?.parse().ok()?),
            "close" => Self::Close(parts.next()?.parse().ok()?),
            "work" => Self::Work,
            "hello" => Self::Hello,
            "signal" => {
                let account_id = parts.next()?.parse().ok()?;
                let except = Some(parts.next()?.parse().ok()?).filter(|device: &i64| *device != 0);
                let (stream, kind) = (parts.next()?.to_owned(), parts.next()?.to_owned());
                let bytes = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
                let text = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
                let signal = Arc::new(Signal { kind: kind.into(), bytes: bytes.into(), text: text.into() });
                Self::Signal(Carried { account_id, except, stream, signal })
            }
            _ => return None,
        };
        if parts.next().is_none() { Some((replica, word)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(bytes: usize) -> Carried {
        let form = bytes::Bytes::from(vec![7; bytes]);
        let signal = Signal { kind: "#cursor".into(), bytes: form.clone(), text: form };
        Carried { account_id: 5, except: Some(9), stream: "sabc".to_owned(), signal: Arc::new(signal) }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = Word::Look(42).write("a");
        assert!(matches!(Word::read(&text), Some(("a", Word::Look(42)))), "{text}");
        let text = Word::Close(7).write("a");
        assert!(matches!(Word::read(&text), Some(("a", Word::Close(7)))), "{text}");
        let text = Word::Signal(carried(300)).write("b");
        let Some(("b", Word::Signal(read))) = Word::read(&text) else { panic!("{text}") };
        assert_eq!((read.account_id, read.except, read.stream.as_str()), (5, Some(9), "sabc"));
        assert_eq!((read.signal.kind.as_ref(), read.signal.bytes.len()), ("#cursor", 300));
        let nobody = Carried { except: None, ..carried(1) };
        let text = Word::Signal(nobody).write("b");
        assert!(matches!(Word::read(&text), Some((_, Word::Signal(Carried { except: None, .. })))), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        for noise in [
            "",
            "a",
            "a x",
            "a look",
            "a look x",
            "a look 1 2",
            "a close",
            "a signal 1 2 s #k",
            "a signal 1 2 s #k ! !",
        ] {
            assert!(Word::read(noise).is_none(), "{noise}");
        }
    }

    #[test]
    fn a_word_that_fits_is_one_that_notify_takes() {
        let mut bytes = 0;
        while carried(bytes + 1).fits() {
            bytes += 1;
        }
        assert!(bytes > 2_000, "{bytes}");
        assert!(Word::Signal(carried(bytes)).write(&"f".repeat(16)).len() <= WORD_BYTES);
    }
}
