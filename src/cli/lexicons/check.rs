//! `rookery lexicons check`: from the names to the records, the way a PDS or a client goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use serde_json::Value;

use super::authority::{dns_name, dns_names};
use super::plan::Published;
use super::repository::Pds;
use super::{printable, records};
use crate::identity::Resolver;
use crate::identity::dns::{Dns, DnsError, SystemDns};
use crate::server::{Outbound, outbound};
use crate::types::{Clock, Did};

type Lexicons = BTreeMap<String, Published>;

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = crate::cli::prepare(file)?;
    let Outbound { guarded, resolver, .. } = outbound(&config, &Clock::System)?;
    let dns = SystemDns::default();
    let records = records()?;
    let mut repositories: BTreeMap<String, Result<Lexicons, String>> = BTreeMap::new();
    let mut sound = true;
    for name in dns_names(records.iter().map(|(nsid, _)| *nsid)) {
        let did = match authority(&dns, &name).await {
            Ok(did) => did,
            Err(why) => {
                println!("{name}: {why}");
                sound = false;
                continue;
            }
        };
        if !repositories.contains_key(did.as_str()) {
            let read = read(&did, &resolver, &guarded).await.map_err(|why| format!("{why:#}"));
            repositories.insert(did.to_string(), read);
        }
        let wrong = match repositories.get(did.as_str()) {
            Some(Ok(published)) => compared(&name, &records, published),
            Some(Err(why)) => vec![why.clone()],
            None => Vec::new(),
        };
        println!("{name}: {did}{}", if wrong.is_empty() { ", and every lexicon is as it should be" } else { "" });
        for wrong in &wrong {
            println!("  {wrong}");
        }
        sound &= wrong.is_empty();
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The DID that a name gives: exactly one, or none.
async fn authority(dns: &dyn Dns, name: &str) -> Result<Did, String> {
    let texts = dns.texts(name).await.map_err(|error: DnsError| error.to_string())?;
    let said: Vec<&str> = texts.iter().filter_map(|text| text.strip_prefix("did=")).collect();
    match said[..] {
        [] => Err("no TXT record did=…; `rookery lexicons publish` says which to set".to_owned()),
        [did] => Did::parse(did).map_err(|_| format!("its TXT record says {}, which is no DID", printable(did))),
        _ => Err(format!("{} TXT records did=…, where there must be one", said.len())),
    }
}

async fn read(did: &Did, resolver: &Resolver, guarded: &Arc<crate::identity::Guarded>) -> anyhow::Result<Lexicons> {
    let document = resolver.resolve(did).await?;
    let development = guarded.guard().development();
    let origin = document.pds(development).context("the DID document names no PDS by scheme and host alone")?;
    Pds::named_by_a_document(origin, Arc::clone(guarded)).lexicons(did).await
}

/// What is not as it should be of the lexicons that `name` is responsible for.
fn compared(name: &str, records: &[(&'static str, Value)], published: &Lexicons) -> Vec<String> {
    let due = records.iter().filter(|(nsid, _)| dns_name(nsid) == name);
    due.filter_map(|(nsid, record)| match published.get(*nsid) {
        None => Some(format!("{nsid} is not published")),
        Some(there) if there.record != *record => Some(format!("{nsid} is published otherwise than it is here")),
        Some(_) => None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use futures_util::future::BoxFuture;
    use serde_json::json;

    use super::super::plan::Published;
    use super::{Dns, DnsError, authority, compared};

    struct Says(Result<Vec<String>, DnsError>);

    impl Dns for Says {
        fn addresses<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn texts<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<String>, DnsError>> {
            Box::pin(async { self.0.clone() })
        }
    }

    #[tokio::test]
    async fn a_name_gives_one_did_or_says_why_not() {
        let ask = async |texts: &[&str]| {
            let dns = Says(Ok(texts.iter().map(|text| (*text).to_owned()).collect()));
            authority(&dns, "_lexicon.mls.catbird.blue").await
        };
        let did = "did=did:plc:ewvi7nxzyoun6zhxrhs64oiz";
        assert_eq!(ask(&["v=spf1", did]).await.unwrap().as_str(), &did[4..]);
        assert!(ask(&["v=spf1"]).await.unwrap_err().starts_with("no TXT record did=…"));
        assert!(ask(&[did, did]).await.unwrap_err().starts_with("2 TXT records"));
        assert!(ask(&["did=nobody"]).await.unwrap_err().contains("says nobody, which is no DID"));
        let away = authority(&Says(Err(DnsError)), "_lexicon.mls.catbird.blue").await;
        assert_eq!(away.unwrap_err(), "the name cannot be looked up now");
    }

    #[test]
    fn each_group_answers_for_its_own_lexicons() {
        let records =
            ["blue.catbird.a.one", "blue.catbird.a.two", "blue.catbird.b.one"].map(|id| (id, json!({ "id": id })));
        let there = |record| Published { cid: "bafy".into(), record };
        let mut published = BTreeMap::from([("blue.catbird.a.one".to_owned(), there(records[0].1.clone()))]);
        let found = compared("_lexicon.a.catbird.blue", &records, &published);
        assert_eq!(found, ["blue.catbird.a.two is not published"]);
        published.insert("blue.catbird.a.two".to_owned(), there(json!({ "id": "other" })));
        let found = compared("_lexicon.a.catbird.blue", &records, &published);
        assert_eq!(found, ["blue.catbird.a.two is published otherwise than it is here"]);
        assert_eq!(compared("_lexicon.c.catbird.blue", &records, &published), Vec::<String>::new());
    }
}
