use std::sync::Mutex;

use super::super::dns::DnsError;
use super::super::dns::tests::FakeDns;
use super::super::source::Source;
use super::*;
use crate::types::UnixMillis;

/// Documents in memory: DID, and what it calls itself.
struct Documents(&'static [(&'static str, &'static [&'static str])]);

impl Source for Documents {
    fn fetch<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, ResolveError>> {
        Box::pin(async move {
            let known = self.0.iter().find(|(known, _)| *known == did.as_str()).ok_or(ResolveError::NotFound)?;
            let json = serde_json::json!({ "id": did, "alsoKnownAs": known.1 });
            Ok(DidDocument::parse(did, json.to_string().as_bytes()).unwrap())
        })
    }
}

/// One answer for every name.
struct File(Mutex<Result<Option<String>, HandleError>>);

impl WellKnown for Arc<File> {
    fn text<'a>(&'a self, _: &'a Handle) -> BoxFuture<'a, Result<Option<String>, HandleError>> {
        Box::pin(async move { self.0.lock().unwrap().clone() })
    }
}

const ALICE: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
const BOB: &str = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb";
const DOCUMENTS: Documents = Documents(&[
    (ALICE, &["at://alice.site.com", "https://alice.site.com", "at://old.site.com", "at://ALICE.site.com", "at://x"]),
    (BOB, &["at://bob.site.com", "at://alice.site.com"]),
]);

struct World {
    dns: FakeDns,
    file: Arc<File>,
    clock: Clock,
    handles: Handles,
}

fn world(development: bool) -> World {
    let (dns, file) = (FakeDns::default(), Arc::new(File(Mutex::new(Ok(None)))));
    let clock = Clock::manual(UnixMillis(1_795_000_000_000));
    let resolver = Arc::new(Resolver::new(DOCUMENTS, clock.clone()));
    let handles = Handles::by(dns.clone(), Arc::clone(&file), resolver, clock.clone(), development);
    World { dns, file, clock, handles }
}

impl World {
    fn says(&self, handle: &str, texts: Result<&[&str], DnsError>) {
        self.dns.set_texts(&format!("_atproto.{handle}"), texts);
    }

    async fn find(&self, handle: &str) -> Result<String, AccountError> {
        let account = self.handles.account_of_handle(&Handle::parse(handle).unwrap()).await?;
        Ok(account.document.did.to_string())
    }
}

#[test]
fn a_handle_is_a_domain_name_of_two_labels_or_more() {
    let label_63 = "a".repeat(63);
    let long = format!("{}.co", ["a".repeat(62).as_str(); 4].join("."));
    for valid in [
        "a.co",
        "alice.example.com",
        "ALICE.example.COM",
        "x-y.z--z.org",
        "1.2.example",
        "127.0.0.1.in.name",
        "xn--ls8h.test",
        "a.onion",
        &format!("{label_63}.net"),
        &long[2..],
    ] {
        assert!(Handle::parse(valid).is_ok(), "{valid}");
    }
    for invalid in [
        "",
        "alice",
        ".alice.com",
        "alice.com.",
        "alice..com",
        "-alice.com",
        "alice-.com",
        "alice.-com",
        "alice_b.com",
        "al ice.com",
        " alice.com",
        "alice.com ",
        "alice.com\n",
        "@alice.com",
        "at://alice.com",
        "alice.com/path",
        "alice.com:443",
        "did:plc:abc",
        "alice.1com",
        "192.0.2.7",
        "[2001:db8::1]",
        "älice.com",
        "alice.✓",
        &format!("{label_63}a.net"),
        &format!("aa.{long}"),
    ] {
        assert!(Handle::parse(invalid).is_err(), "{invalid}");
    }
    assert_eq!(Handle::parse("Alice.Example.COM").unwrap().as_str(), "alice.example.com");
}

#[tokio::test]
async fn a_handle_leads_to_the_did_that_dns_says_and_the_document_confirms() {
    let world = world(false);
    world.says("alice.site.com", Ok(&["v=spf1 -all", &format!("did={ALICE}")]));
    assert_eq!(world.find("Alice.Site.com").await, Ok(ALICE.to_owned()));
    // By its well-known file, where DNS is silent.
    world.clock.advance_ms(NEGATIVE_MS);
    *world.file.0.lock().unwrap() = Ok(Some(format!("{ALICE}\n")));
    assert_eq!(world.find("old.site.com").await, Ok(ALICE.to_owned()));
    world.says("new.site.com", Err(DnsError));
    assert_eq!(world.find("new.site.com").await, Err(AccountError::NotClaimed), "the document names it not");
}

#[tokio::test]
async fn what_is_not_one_did_is_none() {
    let world = world(false);
    let one = format!("did={ALICE}");
    let two = format!("did={BOB}");
    for (texts, file, expected) in [
        (Ok(&[][..]), Ok(None), HandleError::NotFound),
        (Ok(&["nonsense"][..]), Ok(None), HandleError::NotFound),
        (Ok(&[one.as_str(), two.as_str()][..]), Ok(Some(ALICE.to_owned())), HandleError::Ambiguous),
        (Ok(&["did="][..]), Ok(Some(ALICE.to_owned())), HandleError::Ambiguous),
        (Ok(&["did=nonsense"][..]), Ok(None), HandleError::Ambiguous),
        (Ok(&[][..]), Ok(Some("<html>".to_owned())), HandleError::Ambiguous),
        (Ok(&[][..]), Err(HandleError::Unreachable), HandleError::Unreachable),
        (Err(DnsError), Ok(None), HandleError::Unreachable),
    ] {
        world.says("alice.site.com", texts);
        *world.file.0.lock().unwrap() = file;
        assert_eq!(world.find("alice.site.com").await, Err(expected.into()), "{texts:?}");
        world.clock.advance_ms(NEGATIVE_MS);
    }
    world.says("gone.site.com", Ok(&["did=did:plc:cccccccccccccccccccccccc"]));
    assert_eq!(world.find("gone.site.com").await, Err(ResolveError::NotFound.into()));
}

#[tokio::test]
async fn a_did_has_the_handles_that_say_so_themselves() {
    let world = world(false);
    world.says("alice.site.com", Ok(&[&format!("did={ALICE}")]));
    world.says("bob.site.com", Ok(&[&format!("did={BOB}")]));
    let of = async |did: &str| {
        let account = world.handles.account(&Did::parse(did).unwrap()).await.unwrap();
        account.handles.into_iter().map(|(handle, says)| (handle.0, says)).collect::<Vec<_>>()
    };
    let not_found = Err(HandleError::NotFound.into());
    assert_eq!(of(ALICE).await, [("alice.site.com".to_owned(), Ok(())), ("old.site.com".to_owned(), not_found)]);
    let stolen = Err(Unverified::AnotherDid);
    assert_eq!(of(BOB).await, [("bob.site.com".to_owned(), Ok(())), ("alice.site.com".to_owned(), stolen)]);
    assert_eq!(world.find("bob.site.com").await, Ok(BOB.to_owned()));
}

#[tokio::test]
async fn reserved_names_are_not_looked_up_and_test_in_development_alone() {
    for (development, name, asked) in [
        (false, "a.invalid", 0),
        (true, "a.invalid", 0),
        (true, "a.local", 0),
        (true, "a.localhost", 0),
        (true, "a.onion", 0),
        (false, "a.test", 0),
        (true, "a.test", 1),
        (false, "a.site.com", 1),
    ] {
        let world = world(development);
        let expected = if asked == 0 { HandleError::Reserved } else { HandleError::NotFound };
        assert_eq!(world.find(name).await, Err(expected.into()), "{name}");
        assert_eq!(world.dns.asked(), asked, "{name}");
    }
}

#[tokio::test]
async fn one_name_is_asked_once_at_a_time_and_remembered_for_an_hour_or_a_minute() {
    let world = world(false);
    let many = futures_util::future::join_all((0..20).map(|_| world.find("alice.site.com"))).await;
    assert!(many.iter().all(|found| *found == Err(HandleError::NotFound.into())));
    assert_eq!(world.dns.asked(), 1);
    world.says("alice.site.com", Ok(&[&format!("did={ALICE}")]));
    world.clock.advance_ms(NEGATIVE_MS - 1);
    assert!(world.find("alice.site.com").await.is_err());
    world.clock.advance_ms(1);
    assert!(world.find("alice.site.com").await.is_ok());
    world.clock.advance_ms(FRESH_MS - 1);
    let before = world.dns.asked();
    assert!(world.find("alice.site.com").await.is_ok());
    // Of the account's other handle the failure ran out long ago.
    assert_eq!(world.dns.asked(), before + 1);
    world.clock.advance_ms(1);
    assert!(world.find("alice.site.com").await.is_ok());
    assert_eq!(world.dns.asked(), before + 2);
}
