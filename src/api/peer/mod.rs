//! Methods of servers among themselves (docs/FEDERATION.md).

mod deliver;
mod follow;
mod get_checkpoint;
mod get_entries;
mod get_keys;
mod move_seats;
mod replicate;
mod report_fork;
mod show_checkpoint;
mod store;
mod transfer_home;
mod unfollow;

use crate::identity::Signed;
use crate::lexicon::peer::defs;
use crate::lexicon::peer::deliver::Deliver;
use crate::lexicon::peer::follow::Follow;
use crate::lexicon::peer::get_checkpoint::GetCheckpoint;
use crate::lexicon::peer::get_entries::GetEntries;
use crate::lexicon::peer::get_keys::GetKeys;
use crate::lexicon::peer::move_seats::MoveSeats;
use crate::lexicon::peer::replicate::Replicate;
use crate::lexicon::peer::report_fork::ReportFork;
use crate::lexicon::peer::show_checkpoint::ShowCheckpoint;
use crate::lexicon::peer::transfer_home::TransferHome;
use crate::lexicon::peer::unfollow::Unfollow;
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<Deliver, _, _>(deliver::deliver)
        .method::<Follow, _, _>(follow::follow)
        .method::<GetCheckpoint, _, _>(get_checkpoint::get_checkpoint)
        .method::<GetEntries, _, _>(get_entries::get_entries)
        .method::<GetKeys, _, _>(get_keys::get_keys)
        .method::<MoveSeats, _, _>(move_seats::move_seats)
        .method::<Replicate, _, _>(replicate::replicate)
        .method::<ReportFork, _, _>(report_fork::report_fork)
        .method::<ShowCheckpoint, _, _>(show_checkpoint::show_checkpoint)
        .method::<TransferHome, _, _>(transfer_home::transfer_home)
        .method::<Unfollow, _, _>(unfollow::unfollow)
}

fn wire(signed: Signed) -> defs::Signed {
    defs::Signed { statement: signed.statement, key: signed.key, sig: signed.sig }
}
