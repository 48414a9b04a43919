//! `blue.catbird.admin.listAccounts`: the accounts with devices here, oldest first.

use super::accounts;
use crate::lexicon::admin::list_accounts::{Error, ListAccounts, Output};
use crate::types::Cursor;
use crate::xrpc::{Call, Failure, Operator, Services, parse};

pub async fn list_accounts(cx: &Services, _: Operator, call: Call<ListAccounts>) -> Result<Output, Failure<Error>> {
    let after = match &call.params.cursor {
        Some(cursor) => parse(Cursor::parse, cursor)?.to_db(),
        None => 0,
    };
    let limit = i64::try_from(call.params.limit).unwrap_or(i64::MAX);

    let page = accounts::list(&cx.storage, after, limit).await?;

    Ok(Output { accounts: page.accounts, cursor: page.cursor.map(|cursor| cursor.to_string()) })
}
