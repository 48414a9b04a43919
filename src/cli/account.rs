//! `rookery account`: who may use this server, said on its own machine. What the admin methods do, and what they do not:
//! letting accounts in.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{machine_user, prepare};
use crate::api::account::admission;
use crate::api::admin::accounts;
use crate::api::admin::actions::{self, OperatorAction};
use crate::config;
use crate::lexicon::admin::defs::Account;
use crate::quota;
use crate::server::{Database, open_database_beside};
use crate::storage::Storage;
use crate::types::{Clock, Did, UnixMillis};

/// Accounts read at once.
const PAGE: i64 = 500;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Every account with its state, devices and times.
    List,
    /// Take no more calls of an account, close its sockets, hand out none of its key packages.
    Suspend {
        did: String,
        /// For operators alone.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let a suspended account call again.
    Resume { did: String },
    /// Let an account register where ACCOUNTS is `allowlist`.
    Allow { did: String },
    /// How much an account uses of its quotas; with an option, how much it may.
    Quota {
        did: String,
        /// Bytes in the place of QUOTA_ACCOUNT_BYTES.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 60))]
        bytes: Option<u64>,
        /// Rows in the place of QUOTA_ACCOUNT_ROWS.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 60))]
        rows: Option<u64>,
        /// As the settings say again.
        #[arg(long, conflicts_with_all = ["bytes", "rows"])]
        reset: bool,
    },
    /// Make a code for new accounts where ACCOUNTS is `invite`. It is shown once.
    Invite {
        /// How many accounts may come by it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        uses: u16,
        /// How long it is good.
        #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=365))]
        days: u16,
    },
}

pub(super) async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let config = prepare(file)?;
    let Database { storage, cluster } = open_database_beside(&config).await?;
    let outcome = obey(&storage, config.quotas, command, Clock::System.now()).await;
    storage.close();
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn obey(storage: &Storage, quotas: config::Quotas, command: Command, now: UnixMillis) -> anyhow::Result<()> {
    match command {
        Command::List => list(storage).await?,
        Command::Suspend { did, reason } => suspend(storage, &did, true, reason.as_deref(), now).await?,
        Command::Resume { did } => suspend(storage, &did, false, None, now).await?,
        Command::Allow { did } => {
            let (account, by) = (parse(&did)?, machine_user());
            let mut tx = storage.begin().await?;
            admission::allow(tx.conn(), &account, now).await?;
            let action = OperatorAction { by: &by, name: "allowAccount", account: Some(&account), detail: &[] };
            actions::record(tx.conn(), &action, now).await?;
            tx.commit().await?;
            println!("{did} may register");
        }
        Command::Quota { did, bytes, rows, reset } => {
            if reset || bytes.is_some() || rows.is_some() {
                let set = quota::Override { bytes, rows };
                quota::set_override(storage.pool(), parse(&did)?.as_str(), set, now.to_datetime()).await?;
            }
            let Some(usage) = quota::usage_for_operator(storage, quotas, &parse(&did)?).await? else {
                bail!("no account {did} is here; `rookery account list` shows those that are");
            };
            for usage in usage {
                println!("{}: {} of {}", usage.quota.name(), usage.used, usage.limit);
            }
        }
        Command::Invite { uses, days } => {
            let expires_at = UnixMillis(now.0 + i64::from(days) * DAY_MS);
            let (by, until) = (machine_user(), expires_at.to_rfc3339());
            let mut tx = storage.begin().await?;
            let code = admission::invite(tx.conn(), uses, expires_at, now).await?;
            let detail = [("uses", &*uses.to_string()), ("until", &*until)];
            let action = OperatorAction { by: &by, name: "makeInvite", account: None, detail: &detail };
            actions::record(tx.conn(), &action, now).await?;
            tx.commit().await?;
            println!("{code}  (accounts: {uses}, until {})", expires_at.to_rfc3339());
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn list(storage: &Storage) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let page = accounts::list(storage, after, PAGE).await?;
        for account in &page.accounts {
            println!("{}", line(account));
        }
        match page.cursor {
            Some(cursor) => after = cursor,
            None => return Ok(()),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn suspend(
    storage: &Storage,
    did: &str,
    suspended: bool,
    reason: Option<&str>,
    now: UnixMillis,
) -> anyhow::Result<()> {
    if reason.is_some_and(|reason| reason.len() > accounts::REASON_BYTES) {
        bail!("the reason is too long. Fix: at most {} bytes", accounts::REASON_BYTES);
    }
    let by = machine_user();
    match accounts::set_suspended(storage, &by, &parse(did)?, suspended, reason, now).await? {
        Some(account) => println!("{}", line(&account)),
        None => bail!("no account {did} is here; `rookery account list` shows those that are"),
    }
    Ok(())
}

fn line(account: &Account) -> String {
    let Account { account: did, state, devices, created_at, suspended_at, reason, server } = account;
    let mut parts = vec![format!("{did}  {state}  since {created_at}"), format!("devices: {devices}")];
    parts.extend(suspended_at.as_ref().map(|at| format!("suspended {at}")));
    parts.extend(reason.as_ref().map(|reason| format!("because: {reason}")));
    parts.extend(server.as_ref().map(|server| format!("its home is {server}")));
    parts.join(", ")
}

fn parse(did: &str) -> anyhow::Result<Did> {
    Did::parse(did).with_context(|| format!("`{did}` is not a DID. Fix: write it in full, such as did:plc:…"))
}
