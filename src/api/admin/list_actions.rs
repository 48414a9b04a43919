//! `blue.catbird.admin.listActions`: the actions of operators, oldest first, as verifiable records.

use super::actions::{self, ActionRecord};
use crate::lexicon::admin::list_actions::{Action, Error, ListActions, Output};
use crate::types::{Bytes, Cursor};
use crate::xrpc::{Call, Failure, Fault, Operator, Services, parse};

pub async fn list_actions(cx: &Services, _: Operator, call: Call<ListActions>) -> Result<Output, Failure<Error>> {
    let after = match &call.params.cursor {
        Some(cursor) => u64::try_from(parse(Cursor::parse, cursor)?.to_db()).unwrap_or_default(),
        None => 0,
    };
    let limit = i64::try_from(call.params.limit).unwrap_or(i64::MAX);

    let mut found = actions::list(cx.storage.pool(), after, limit.saturating_add(1)).await?;
    let more = i64::try_from(found.len()).is_ok_and(|found| found > limit);
    if more {
        found.pop();
    }

    let actions: Vec<Action> = found.into_iter().map(shown).collect::<Result<_, _>>()?;
    let cursor = actions.last().filter(|_| more).map(|last| last.seq.to_string());
    Ok(Output { actions, cursor })
}

fn shown(record: ActionRecord) -> Result<Action, Fault> {
    let statement = record.read().ok_or_else(|| Fault::internal("operator_action.statement is no statement"))?;
    Ok(Action {
        seq: statement.seq,
        at: statement.at.to_rfc3339(),
        by: statement.by,
        action: statement.action,
        account: statement.account,
        statement: Bytes(record.bytes),
        hash: Bytes(record.hash),
    })
}
