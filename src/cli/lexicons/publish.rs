//! `rookery lexicons publish`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use secrecy::SecretString;
use url::Url;

use super::authority::dns_names;
use super::plan::{Plan, Step};
use super::repository::{Pds, Session};
use super::{printable, records};
use crate::config::{Publisher, publisher};
use crate::server::authorities;
use crate::types::Did;

/// Bytes of a password; more is something else by mistake.
const MAX_PASSWORD_BYTES: u64 = 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The PDS of the account that publishes, such as <https://pds.example.com>.
    #[arg(long, value_name = "URL")]
    pds: Url,
    /// The account that publishes: a handle such as lexicons.example.com, or a DID.
    #[arg(long, value_name = "HANDLE-OR-DID")]
    identifier: String,
    /// Say what would happen, and write nothing. Takes no password.
    #[arg(long)]
    dry_run: bool,
    /// Publish also what breaks programs that were made from what is published now.
    #[arg(long)]
    allow_breaking: bool,
}

pub(super) async fn run(file: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let Publisher { pds_password: set, outbound_ca } = publisher(file)?;
    let pds = Pds::named_by_the_operator(&args.pds, &authorities(outbound_ca.as_deref())?)?;
    let identifier = args.identifier.trim_start_matches('@');
    if args.dry_run {
        let did = pds.did_of(identifier).await?;
        let plan = Plan::new(records()?, &pds.lexicons(&did).await?);
        for (nsid, _, step) in &plan.steps {
            say(step, nsid, true);
        }
        finish(&plan, &did);
        return judged(&plan, args.allow_breaking).map(|()| ExitCode::SUCCESS);
    }
    let password = match set {
        Some(password) => password,
        None => from_standard_input()?,
    };
    let session = pds.log_in(identifier, &password).await?;
    let outcome = write(&pds, &session, args.allow_breaking).await;
    pds.log_out(&session).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn from_standard_input() -> anyhow::Result<SecretString> {
    let input = std::io::stdin();
    // A terminal would show what is typed.
    ensure!(
        !input.is_terminal(),
        "no password. Fix: set ROOKERY_PDS_PASSWORD, or pipe an app password to this command"
    );
    let mut text = String::new();
    input.lock().take(MAX_PASSWORD_BYTES).read_to_string(&mut text)?;
    let password = text.trim_end_matches(['\r', '\n']);
    ensure!(
        !password.is_empty(),
        "no password. Fix: set ROOKERY_PDS_PASSWORD, or pipe an app password to this command"
    );
    Ok(SecretString::from(password))
}

/// Nothing is written before everything was compared and judged. What was written when a write fails stays, and is
/// unchanged for the next run.
async fn write(pds: &Pds, session: &Session, allow_breaking: bool) -> anyhow::Result<()> {
    let plan = Plan::new(records()?, &pds.lexicons(&session.did).await?);
    judged(&plan, allow_breaking)?;
    for (nsid, record, step) in &plan.steps {
        match step {
            Step::Create => pds.put(session, nsid, record, None).await?,
            Step::Change { cid, .. } => pds.put(session, nsid, record, Some(cid)).await?,
            Step::Keep => {}
        }
        say(step, nsid, false);
    }
    finish(&plan, &session.did);
    Ok(())
}

fn judged(plan: &Plan, allow_breaking: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    for (nsid, what) in plan.breaks() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {nsid}: {}", printable(what));
    }
    if text.is_empty() || allow_breaking {
        return Ok(());
    }
    bail!(
        "nothing was written: these changes are not additive, and programs made from what is published now would \
         break:{text}\nFix: give what changed a new name, or publish it all the same with --allow-breaking"
    )
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn say(step: &Step, nsid: &str, dry_run: bool) {
    let done = match (step, dry_run) {
        (Step::Create, false) => "created",
        (Step::Create, true) => "would create",
        (Step::Change { .. }, false) => "changed",
        (Step::Change { .. }, true) => "would change",
        (Step::Keep, _) => "unchanged",
    };
    println!("{done:<12} {nsid}");
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn finish(plan: &Plan, did: &Did) {
    for nsid in &plan.gone {
        println!("{:<12} {}: published, but known no more; it stays", "gone", printable(nsid));
    }
    println!("\nDNS records, one for each group of names:");
    for name in dns_names(plan.steps.iter().map(|(nsid, ..)| *nsid)) {
        println!("{name} TXT \"did={did}\"");
    }
}
