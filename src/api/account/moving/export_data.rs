//! `blue.catbird.account.exportData`: what the account's next server needs, in parts.
//!
//! Invariant: a part stays below the 8 MiB that a PDS lets through; who reads all parts while nothing changes has read
//! everything once.

use super::store;
use crate::api::account::contacts::certified;
use crate::federation::joining::{consent, relationship};
use crate::lexicon::account::export_data::{Error, ExportData, Output, Relationship};
use crate::types::Did;
use crate::xrpc::{Call, Failure, Fault, ProvenDevice, Services};

/// Items of one part; Welcomes, of up to 2 MiB each.
const ITEMS: i64 = 100;
const WELCOMES: i64 = 2;

/// Where a part begins: a section, and what came before in it.
struct From<'a> {
    section: Section,
    after: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Relationships,
    Blocks,
    Seats,
    Welcomes,
}

const SECTIONS: [(Section, &str); 4] =
    [(Section::Relationships, "r"), (Section::Blocks, "b"), (Section::Seats, "s"), (Section::Welcomes, "w")];

pub async fn export_data(
    cx: &Services,
    ProvenDevice(caller): ProvenDevice,
    call: Call<ExportData>,
) -> Result<Output, Failure<Error>> {
    certified(&caller)?;
    let from = begins(call.params.cursor.as_deref())?;
    let mut part = Output {
        invitations: None,
        relationships: Vec::new(),
        blocks: Vec::new(),
        seats: Vec::new(),
        welcomes: Vec::new(),
        cursor: None,
    };
    let (account_id, pool) = (caller.author.account_id, cx.storage.pool());
    if call.params.cursor.is_none() {
        part.invitations = store::said_policy(pool, account_id).await?;
    }
    let number = || from.after.parse::<i64>().unwrap_or(0);
    let (more, last) = match from.section {
        Section::Relationships => {
            let now = cx.clock.now().to_datetime();
            let mut found = relationship::list(pool, account_id, None, from.after, ITEMS + 1, now).await?;
            let more = cut(&mut found, ITEMS);
            let last = found.last().map(|one| one.other.to_string());
            let one =
                |one: relationship::Listed| Relationship { account: one.other, state: one.state.name().to_owned() };
            part.relationships = found.into_iter().map(one).collect();
            (more, last)
        }
        Section::Blocks => {
            let mut found = consent::blocks(pool, account_id, from.after, ITEMS + 1).await?;
            let more = cut(&mut found, ITEMS);
            part.blocks = found.into_iter().map(|(other, _)| other).collect();
            (more, part.blocks.last().map(Did::to_string))
        }
        Section::Seats => {
            let mut found = store::list_seats(pool, account_id, number(), ITEMS + 1).await?;
            let more = cut(&mut found, ITEMS);
            let last = found.last().map(|(id, _)| id.to_string());
            part.seats = found.into_iter().map(|(_, seat)| seat).collect();
            (more, last)
        }
        Section::Welcomes => {
            let mut found = store::list_welcomes(pool, account_id, number(), WELCOMES + 1).await?;
            let more = cut(&mut found, WELCOMES);
            let last = found.last().map(|(id, _)| id.to_string());
            part.welcomes = found.into_iter().map(|(_, welcome)| welcome).collect();
            (more, last)
        }
    };
    part.cursor = next(from.section, last.filter(|_| more));
    Ok(part)
}

/// Whether there was one more than asked for, which is left out.
fn cut<T>(found: &mut Vec<T>, most: i64) -> bool {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let more = found.len() > most;
    found.truncate(most);
    more
}

fn begins(cursor: Option<&str>) -> Result<From<'_>, Fault> {
    let Some(cursor) = cursor else { return Ok(From { section: Section::Relationships, after: "" }) };
    let read = cursor.split_once('.').and_then(|(name, after)| {
        let (section, _) = SECTIONS.iter().find(|(_, known)| *known == name)?;
        Some(From { section: *section, after })
    });
    read.ok_or_else(|| Fault::InvalidRequest("params/cursor: not one of this method".to_owned()))
}

/// The rest of the section, or the next one.
fn next(section: Section, last: Option<String>) -> Option<String> {
    let at = SECTIONS.iter().position(|(known, _)| *known == section)?;
    match last {
        Some(last) => Some(format!("{}.{last}", SECTIONS[at].1)),
        None => SECTIONS.get(at + 1).map(|(_, name)| format!("{name}.")),
    }
}
