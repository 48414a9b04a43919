//! `server.describe`.

use crate::support::TestServer;

#[tokio::test]
async fn describe_shows_limits_kinds_and_contact_to_anyone() {
    let server = TestServer::start_with(&[
        ("OPERATOR_CONTACT", "mailto:operator@example.com"),
        ("TERMS_URL", "https://example.com/terms"),
        ("MAX_BODY_BYTES", "131072"),
        ("RETENTION_MESSAGES_DAYS", "7"),
        ("QUOTA_CONVO_BYTES", "1000000"),
    ])
    .await;
    let answer = server.raw("blue.catbird.server.describe", "").send().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = &answer.body;
    assert_eq!(body["server"], server.name().as_str());
    assert_eq!((&body["protocolVersion"], &body["version"]), (&1.into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!((&body["limits"]["bodyBytes"], &body["retention"]["messagesDays"]), (&131_072.into(), &7.into()));
    let quota = serde_json::json!({ "name": "convoBytes", "limit": 1_000_000 });
    assert!(body["quotas"].as_array().unwrap().contains(&quota), "{body}");
    assert!(body["entryKinds"].as_array().unwrap().contains(&"#message".into()), "{body}");
    assert!(body["deliveryKinds"].as_array().unwrap().contains(&"invitation".into()), "{body}");
    assert_eq!(body["cipherSuites"], serde_json::json!([1, 3]));
    assert_eq!((&body["contact"], body.get("privacyPolicy")), (&"mailto:operator@example.com".into(), None));
    server.stop().await;
}
