//! Why an account or a device may not act in a stream.

use crate::types::Refusal;

/// Refuses an account without a seat. For a stranger the stream does not exist; a former member knows that it does.
pub(in crate::log) fn no_seat(was_seated: bool) -> Refusal {
    if was_seated {
        Refusal::new("NotMember", "the account's seat in this stream has ended")
    } else {
        stream_not_found()
    }
}

/// Refuses an account whose role is of a later version, and which may only read.
pub(in crate::log) fn role_unknown() -> Refusal {
    Refusal::new(
        "NotMember",
        "this version of the server does not know the account's role: the role gives no right here",
    )
}

/// The stream does not exist, or the caller must not know that it does.
pub fn stream_not_found() -> Refusal {
    Refusal::new("StreamNotFound", "there is no such stream, or the account never had a seat in it")
}

pub fn device_not_in_group() -> Refusal {
    Refusal::new("DeviceNotInGroup", "the account has a seat, but this device has no leaf in the group")
}
