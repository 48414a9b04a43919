//! `account.listRelationships`, and the callers that may read it, `account.listBlocks` and `account.exportData`.

use rookery::identity::{DEVICE_HEADER, DEVICE_TOKEN_HEADER};
use rookery::lexicon::Method;
use rookery::lexicon::account::export_data::{self, ExportData};
use rookery::lexicon::account::list_blocks::{self, ListBlocks};
use rookery::lexicon::account::list_relationships::{ListRelationships, Params};
use rookery::types::Did;

use crate::support::{AccountToken, Contacts, TestServer, befriend, paged, refused};

fn page(state: Option<&str>, limit: u64, cursor: Option<String>) -> Params {
    Params { state: state.map(str::to_owned), limit, cursor }
}

#[tokio::test]
async fn contacts_and_requests_come_in_pages_by_did_and_by_state() {
    let server = TestServer::start().await;
    let alice = server.newcomer("alice", 0).await;
    let mut expected: Vec<(Did, String)> = Vec::new();
    for number in 0..6 {
        let other = server.newcomer(&format!("other {number}"), 0).await;
        let state = match number % 3 {
            0 => alice.relate(&other, "request").await.unwrap(),
            1 => {
                other.relate(&alice, "request").await.unwrap();
                "incoming".to_owned()
            }
            _ => {
                befriend(&alice, &other).await;
                "accepted".to_owned()
            }
        };
        expected.push((other.did().clone(), state));
    }
    expected.sort();
    let of = |state: Option<&str>| -> Vec<(Did, String)> {
        expected.iter().filter(|(_, found)| state.is_none_or(|state| state == found)).cloned().collect()
    };
    for (state, limit) in [(None, 1), (None, 4), (None, 100), (Some("incoming"), 1), (Some("accepted"), 2)] {
        let seen = paged(async |cursor| {
            let answer = alice.query::<ListRelationships>(&page(state, limit, cursor)).await.unwrap();
            let shown = |one: rookery::lexicon::account::list_relationships::Relationship| {
                assert_eq!(one.expires_at.is_none(), one.state == "accepted");
                (one.account, one.state)
            };
            (answer.relationships.into_iter().map(shown).collect(), answer.cursor)
        });
        assert_eq!(seen.await, of(state), "{state:?}, {limit} a page");
    }
    refused(alice.query::<ListRelationships>(&page(Some("none"), 1, None)).await, 400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn contacts_blocks_and_data_are_for_certified_devices_alone() {
    let server = TestServer::start().await;
    let alice = server.newcomer("alice", 0).await;
    let second = server.second_device(&alice).await;
    let blocks = list_blocks::Params { limit: 50, cursor: None };
    let data = export_data::Params { cursor: None };
    let session = |nsid: &'static str| alice.service_token(nsid);
    for (nsid, query) in
        [(ListRelationships::NSID, "?limit=50"), (ListBlocks::NSID, "?limit=50"), (ExportData::NSID, "")]
    {
        let alone = server.raw(nsid, query).token(&session(nsid)).send().await;
        assert_eq!(alone.outcome(), (401, "DeviceProofRequired"), "{nsid}");
        let named = server.raw(nsid, query).token(&session(nsid)).header(DEVICE_HEADER, alice.device().as_str());
        assert_eq!(named.send().await.outcome(), (401, "DeviceProofRequired"), "{nsid}");
        let proof = alice.token(nsid);
        let proven = server.raw(nsid, query).token(&session(nsid)).header(DEVICE_TOKEN_HEADER, &proof);
        assert_eq!(proven.send().await.outcome().0, 200, "{nsid}");
    }
    // A session can register an uncertified device.
    refused(second.query::<ListRelationships>(&page(None, 50, None)).await, 403, "DeviceUncertified");
    refused(second.query::<ListBlocks>(&blocks).await, 403, "DeviceUncertified");
    refused(second.query::<ExportData>(&data).await, 403, "DeviceUncertified");
    server.stop().await;
}
