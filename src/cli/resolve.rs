//! `rookery resolve`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::identity::handle::Account;
use crate::identity::{Handle, Handles};
use crate::server::{Outbound, outbound};
use crate::types::{Clock, Did};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A handle such as alice.example.com, or a DID.
    name: String,
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) async fn run(file: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let config = super::prepare(file)?;
    let clock = Clock::System;
    let Outbound { guarded, resolver, .. } = outbound(&config, &clock)?;
    let handles = Handles::new(guarded, Arc::new(resolver), clock);
    let account = match Did::parse(&args.name) {
        Ok(did) => handles.account(&did).await?,
        Err(_) => handles.account_of_handle(&Handle::parse(args.name.trim_start_matches('@'))?).await?,
    };
    print!("{}", shown(&account));
    Ok(ExitCode::SUCCESS)
}

fn shown(account: &Account) -> String {
    let document = &account.document;
    let mut text = format!("did      {}\n", document.did);
    // Writing to a String cannot fail.
    for (handle, says) in &account.handles {
        let says = says.map_or_else(|why| format!("not verified: {why}"), |()| "verified".to_owned());
        let _ = writeln!(text, "handle   {} ({says})", handle.as_str());
    }
    if account.handles.is_empty() {
        text.push_str("handle   none\n");
    }
    let key = document.atproto_key.as_ref().map_or("none that can be used", |key| key.curve().alg());
    let _ = writeln!(text, "key      {key}");
    for service in &document.services {
        let (kind, endpoint) = (service.kind.as_deref().unwrap_or("?"), service.endpoint.as_deref().unwrap_or("?"));
        let _ = writeln!(text, "service  {} {kind} {endpoint}", service.fragment);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DidDocument;
    use crate::identity::handle::{HandleError, Unverified};

    #[test]
    fn an_account_is_shown_with_what_holds_and_what_does_not() {
        let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap();
        let json = serde_json::json!({ "id": did, "service": [
            { "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.example" },
        ] });
        let document = Arc::new(DidDocument::parse(&did, json.to_string().as_bytes()).unwrap());
        let handle = |name: &str| Handle::parse(name).unwrap();
        let handles = vec![
            (handle("alice.example.com"), Ok(())),
            (handle("old.example.com"), Err(Unverified::Handle(HandleError::NotFound))),
        ];
        let expected = "did      did:plc:ewvi7nxzyoun6zhxrhs64oiz\n\
            handle   alice.example.com (verified)\n\
            handle   old.example.com (not verified: the name says no DID, neither by DNS nor by its well-known file)\n\
            key      none that can be used\n\
            service  #atproto_pds AtprotoPersonalDataServer https://pds.example\n";
        assert_eq!(shown(&Account { document: Arc::clone(&document), handles }), expected);
        assert!(shown(&Account { document, handles: Vec::new() }).contains("handle   none\n"));
    }
}
