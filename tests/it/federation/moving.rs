//! A conversation goes from one home to another, and nobody in it loses anything: `mls.moveConvo`, and between the two
//! servers `peer.transferHome`.

use std::sync::Arc;

use rookery::federation::{Actor, CallError};
use rookery::identity::Curve;
use rookery::lexicon::Nothing;
use rookery::lexicon::mls::accept_convo::{self, AcceptConvo};
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::list_invitations::ListInvitations;
use rookery::lexicon::mls::move_convo::{self, MoveConvo};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::log::body::HomeChangedBody;
use rookery::log::{Head, StreamState};
use rookery::types::{Did, Seq, Term};
use rookery_client::CallError as ClientCallError;
use rookery_testkit::Person;
use serde_json::json;

use super::joining::{arrives, hears, known, two, until};
use crate::support::{
    BentHome, Chain, Contacts, Fate, Faults, Federation, Following, Handmade, Member, SEATED, eventually, idem, no,
    row, seq,
};

const SEND: &str = "blue.catbird.mls.sendMessage";
const OPEN: &[(&str, &str)] = &[("INVITATIONS", "everyone")];

/// Alice's conversation with Bob and Carol, each at a server of their own; she wrote to herself before they came.
struct Three {
    servers: Federation,
    stream: String,
    alice: Arc<Person>,
    bob: Arc<Person>,
    carol: Arc<Person>,
}

impl Three {
    async fn start() -> Self {
        let servers = known(3, OPEN).await;
        let alice = servers[0].person("alice").await;
        let (bob, carol) = (servers[1].person("bob").await, servers[2].person("carol").await);
        let stream = alice.create_convo().await.unwrap();
        for _ in 0..3 {
            alice.send(&stream, b"to myself").await.unwrap();
        }
        alice.add_members(&stream, &[bob.did().clone(), carol.did().clone()]).await.unwrap();
        arrives(&bob, &stream).await;
        arrives(&carol, &stream).await;
        Self { servers, stream, alice, bob, carol }
    }

    fn name(&self, server: usize) -> &Did {
        self.servers[server].did()
    }

    fn order(&self, to: usize) -> move_convo::Input {
        move_convo::Input { stream: self.stream.clone(), idem: idem(), to: self.name(to).clone() }
    }

    async fn moves(&self, to: usize) -> Result<move_convo::Output, ClientCallError> {
        self.alice.procedure::<MoveConvo>(&self.order(to)).await
    }

    /// Where a server thinks that the stream stands.
    async fn stands(&self, server: usize) -> (String, StreamState, u64, Vec<u8>) {
        let row = row(&self.servers[server], &self.stream).await.unwrap();
        (row.home, row.state, row.head_seq.0, row.head_hash.to_vec())
    }

    /// Everybody hears everybody, and all servers hold the same.
    async fn everybody_talks(&self) {
        for speaker in [&self.alice, &self.bob, &self.carol] {
            let sent = until("a message", async || {
                speaker.arrive(&self.stream).await.ok()?;
                speaker.send(&self.stream, b"hello").await.ok()
            })
            .await;
            for listener in [&self.alice, &self.bob, &self.carol] {
                hears(listener, &self.stream, sent.seq).await;
            }
        }
        eventually("all hold the same", async || {
            let (one, two, three) = (self.stands(0).await, self.stands(1).await, self.stands(2).await);
            one == two && two == three
        })
        .await;
        assert_eq!(self.alice.epoch(&self.stream).await.unwrap(), self.carol.epoch(&self.stream).await.unwrap());
    }

    /// Whether a follower holds all that its home does; it fetches missing contents, as after a further request.
    async fn whole(&self, server: usize) -> bool {
        let wanted = "update replica set backfill_due_at = now() where backfilled_seq is null";
        sqlx::query(wanted).execute(&mut self.servers[server].database.connect().await).await.unwrap();
        self.servers[server].server().services().replicas.look_at_everything().await;
        let whole = "select backfilled_seq is not null from replica";
        sqlx::query_scalar(whole).fetch_one(&mut self.servers[server].database.connect().await).await.unwrap()
    }

    /// Positions rise with seqs, also where entries arrived after later ones.
    async fn assert_ordered(&self, server: usize) {
        let count = "select count(*) filter (where pos <= before), count(*) filter (where pos < 0) from (
                         select pos, lag(pos) over (partition by stream_id order by seq) as before from entry
                     ) e";
        let mut database = self.servers[server].database.connect().await;
        let (disorder, backfilled): (i64, i64) = sqlx::query_as(count).fetch_one(&mut database).await.unwrap();
        assert_eq!(disorder, 0, "entries whose position is not above the one before");
        assert!(backfilled > 0, "cursors skip the backfilled beginning");
    }

    async fn kinds(&self, server: usize) -> Vec<i16> {
        let kinds =
            "select e.kind from entry e join stream s on s.id = e.stream_id where s.public_id = $1 order by e.seq";
        let mut database = self.servers[server].database.connect().await;
        sqlx::query_scalar(kinds).bind(&self.stream).fetch_all(&mut database).await.unwrap()
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientCallError>) -> (u16, String) {
    let error = answer.unwrap_err();
    let refused = error.refused().unwrap_or_else(|| panic!("{error}"));
    (refused.status, refused.error.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_moves_to_another_server_and_back_and_everybody_talks_on() {
    let three = Three::start().await;
    three.everybody_talks().await;
    let draft = three.alice.draft_message(&three.stream, b"once").await.unwrap();
    let first = three.alice.procedure::<SendMessage>(&draft).await.unwrap();

    let order = three.order(1);
    let asked = (0..3).map(|_| until("the move", async || three.alice.procedure::<MoveConvo>(&order).await.ok()));
    let answers = futures_util::future::join_all(asked).await;
    let moved = &answers[0];
    assert!(answers.iter().all(|answer| (answer.seq, &answer.hash) == (moved.seq, &moved.hash)), "asked at once, once");
    three.everybody_talks().await;
    assert_eq!(three.stands(1).await.0, three.name(1).as_str());
    // The new home holds what was before its own members, and who made what: repeated calls get their first answers.
    assert_eq!(three.kinds(1).await, three.kinds(0).await);
    three.assert_ordered(1).await;
    let again = three.alice.procedure::<SendMessage>(&draft).await.unwrap();
    assert_eq!((again.seq, &again.hash), (first.seq, &first.hash));
    let again = three.alice.procedure::<MoveConvo>(&order).await.unwrap();
    assert_eq!((again.term, again.seq, &again.hash), (moved.term, moved.seq, &moved.hash));

    let other = move_convo::Input { to: three.name(2).clone(), ..order };
    let other = three.alice.procedure::<MoveConvo>(&other).await;
    assert_eq!(refused(other), (409, "IdempotencyConflict".to_owned()));

    // It judges commits by the keys and the GroupInfo that it was handed: devices of all three servers commit.
    for (by, server) in [(&three.carol, 1), (&three.alice, 2), (&three.bob, 0)] {
        let newcomer = three.servers[server].person("newcomer").await;
        until("a commit", async || {
            by.arrive(&three.stream).await.ok()?;
            by.add_members(&three.stream, &[newcomer.did().clone()]).await.ok()
        })
        .await;
        arrives(&newcomer, &three.stream).await;
    }
    three.everybody_talks().await;

    // And back: what was handed over once may be again.
    until("the way back", async || three.moves(0).await.ok()).await;
    three.everybody_talks().await;
    assert_eq!(three.stands(2).await.0, three.name(0).as_str());
    let changes: Vec<i16> = three.kinds(2).await.into_iter().filter(|kind| [21, 22, 23].contains(kind)).collect();
    assert_eq!(changes, [23, 21, 23, 21]);
    // Who comes now is shown the whole lineage.
    let late = three.servers[2].person("late").await;
    three.alice.add_members(&three.stream, &[late.did().clone()]).await.unwrap();
    arrives(&late, &three.stream).await;
    three.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_squatted_group_id_does_not_keep_a_conversation_away() {
    let three = Three::start().await;
    let mallory = three.servers[1].person("mallory").await;
    let squat = mallory.create_convo().await.unwrap();
    let mut database = three.servers[1].database.connect().await;
    let group_id = "select group_id from convo where stream_id = (select id from stream where public_id = $1)";
    let squatted = "update convo set group_id = $2 where stream_id = (select id from stream where public_id = $1)";
    let group_id: Vec<u8> = sqlx::query_scalar(group_id).bind(&three.stream).fetch_one(&mut database).await.unwrap();
    sqlx::query(squatted).bind(&squat).bind(&group_id).execute(&mut database).await.unwrap();
    until("the move", async || three.moves(1).await.ok()).await;
    three.everybody_talks().await;
    assert_eq!(three.stands(1).await.0, three.name(1).as_str());
    let holder = "select s.public_id from convo c join stream s on s.id = c.stream_id
                  where c.group_id = $1 and not c.is_foreign";
    let holder: String = sqlx::query_scalar(holder).bind(&group_id).fetch_one(&mut database).await.unwrap();
    assert_eq!(holder, three.stream);
    three.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_did_not_hear_of_the_move_is_led_to_the_new_home_by_the_old_one() {
    let three = Three::start().await;
    three.everybody_talks().await;
    // Nothing of the old home reaches Carol's server; what that asks for is answered.
    three.servers[2].proxy.ban(three.name(0).as_str());
    until("the move", async || three.moves(1).await.ok()).await;
    let (from, home) = (three.name(2).clone(), three.name(0).clone());
    let draft = three.carol.draft_message(&three.stream, b"where?").await.unwrap();
    let federation = &three.servers[2].server().services().federation;
    let actor = || Some(Actor { account: three.carol.did(), device: Some(three.carol.device().as_str()) });
    let answer = federation.procedure::<SendMessage>(&home, &draft, actor()).await;
    match answer {
        Err(CallError::Refused { status: 409, error, home, .. }) if error == "HomeMoved" => {
            assert_eq!(home.as_ref(), Some(three.name(1)));
        }
        other => panic!("{from} was told {other:?}"),
    }
    let sent = until("the way", async || match three.carol.procedure::<SendMessage>(&draft).await {
        Ok(sent) => Some(sent),
        Err(error) => {
            assert!(error.is("HomeMoving"), "{error}");
            None
        }
    })
    .await;
    hears(&three.bob, &three.stream, sent.seq).await;
    three.servers[2].proxy.admit_all();
    three.everybody_talks().await;
    three.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handed_over_stays_and_everybody_talks_on() {
    let three = Three::start().await;
    three.everybody_talks().await;
    let order = three.order(1);
    assert_eq!(refused(three.bob.procedure::<MoveConvo>(&order).await), (403, "NotAuthorized".to_owned()));
    assert_eq!(refused(three.moves(0).await), (403, "TransferRefused".to_owned()), "it is there");
    let nobody = move_convo::Input { to: Did::parse("did:web:nobody.example").unwrap(), ..order.clone() };
    let nowhere = three.alice.procedure::<MoveConvo>(&nobody).await;
    assert_eq!(refused(nowhere), (403, "TransferRefused".to_owned()), "nobody of it is in it");

    // The next home cannot fetch what was before it; while it is asked, nothing is taken.
    three.servers[0].proxy.refuse().await;
    let draft = three.alice.draft_message(&three.stream, b"meanwhile").await.unwrap();
    let (moved, told) = tokio::join!(three.moves(1), async {
        eventually("it is being handed over", async || three.stands(0).await.1 == StreamState::Handing).await;
        let raw = three.servers[0].raw(SEND, "");
        raw.token(&three.alice.token(SEND)).json(&json!(draft)).send().await
    });
    assert_eq!(told.outcome(), (503, "HomeMoving"));
    assert_eq!(refused(moved), (409, "ReplicaBehind".to_owned()));
    assert_eq!(three.stands(0).await.1, StreamState::Active);
    three.alice.procedure::<SendMessage>(&draft).await.unwrap();
    three.servers[0].proxy.listen().await;

    // It takes the stream, and nobody hears of it: nothing has happened.
    until("everything is there", async || three.whole(1).await.then_some(())).await;
    three.servers[1].proxy.suffer(Faults::always(Fate::Unanswered));
    assert_eq!(refused(three.moves(1).await).0, 503);
    assert_eq!(three.stands(0).await.1, StreamState::Active);
    three.servers[1].proxy.suffer(Faults::none());
    three.everybody_talks().await;
    assert_eq!(three.stands(2).await.0, three.name(0).as_str());
    three.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_stopped_in_the_middle_goes_on_by_itself() {
    let three = Three::start().await;
    // As if it had died between two steps.
    let stopped = "with s as (update stream set state = 2 where public_id = $1 returning id)
                   insert into handover (stream_id, server, asked_at, handing_until)
                   select id, $2, now(), now() - interval '1 second' from s";
    let mut database = three.servers[0].database.connect().await;
    sqlx::query(stopped).bind(&three.stream).bind(three.name(1).as_str()).execute(&mut database).await.unwrap();
    assert_eq!(three.stands(0).await.1, StreamState::Handing);
    three.servers[0].server().services().replicas.look_at_everything().await;
    assert_eq!(three.stands(0).await.1, StreamState::Active);
    three.everybody_talks().await;
    three.servers.stop().await;
}

/// Alice's conversation with Bob, which went from her server to his; the database of one of both is put back to before.
async fn forgotten(server: usize) -> (Federation, String, Arc<Person>, Arc<Person>, Vec<Vec<u8>>) {
    let mut servers = known(2, &[OPEN, &[("RECOVERY_WAIT_SECONDS", "5")]].concat()).await;
    let (stream, alice, bob) = two(&servers).await;
    let people = [Arc::clone(&alice), Arc::clone(&bob)];
    let whose = [&*people[server]];
    servers[server].pause().await;
    let backup = servers[server].database.copy().await;
    servers[server].resume(&whose).await;
    let order = move_convo::Input { stream: stream.clone(), idem: idem(), to: servers[1].did().clone() };
    until("the move", async || alice.procedure::<MoveConvo>(&order).await.ok()).await;
    for person in [&alice, &bob, &alice] {
        let sent = until("a message", async || person.send(&stream, b"after the move").await.ok()).await;
        hears(&bob, &stream, sent.seq).await;
        hears(&alice, &stream, sent.seq).await;
    }
    let kept = hashes(&servers[1 - server], &stream).await;
    servers[server].pause().await;
    servers[server].database.become_copy_of(&backup).await;
    let (said, well) = servers[server].command(&["recover"]).await;
    assert!(well, "{said}");
    servers[server].resume(&whose).await;
    (servers, stream, alice, bob, kept)
}

async fn hashes(server: &Member, stream: &str) -> Vec<Vec<u8>> {
    let hashes = "select e.hash from entry e join stream s on s.id = e.stream_id where s.public_id = $1 order by e.seq";
    sqlx::query_scalar(hashes).bind(stream).fetch_all(&mut server.database.connect().await).await.unwrap()
}

async fn goes_on_at_the_next_home(server: usize) {
    let (servers, stream, alice, bob, kept) = forgotten(server).await;
    eventually("both hold what was ordered, and more", async || {
        let (one, other) = (hashes(&servers[0], &stream).await, hashes(&servers[1], &stream).await);
        let mut settled = one == other && one.len() >= kept.len();
        for number in 0..2 {
            let row = row(&servers[number], &stream).await.unwrap();
            settled &= row.home == servers[1].did().as_str() && row.state == StreamState::Active;
        }
        settled
    })
    .await;
    assert!(hashes(&servers[1], &stream).await.starts_with(&kept), "nothing of it is lost");
    for person in [&alice, &bob] {
        let sent = until("a message", async || {
            person.arrive(&stream).await.ok()?;
            person.send(&stream, b"on").await.ok()
        })
        .await;
        hears(&bob, &stream, sent.seq).await;
        hears(&alice, &stream, sent.seq).await;
    }
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_home_that_forgot_the_move_finds_it_among_what_others_hold() {
    goes_on_at_the_next_home(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_home_that_forgot_that_it_is_one_is_told_by_the_old_one_and_takes_up_its_own_order() {
    goes_on_at_the_next_home(1).await;
}

/// What a bent home says of a move.
fn handed(following: &Following, next: &BentHome, bend: impl Fn(&mut HomeChangedBody, &mut Head)) -> Chain {
    let mut chain = following.chain.clone();
    chain.hand(&following.home, next, bend);
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_counts_by_the_word_of_both_homes_and_the_old_one_is_not_heard_any_more() {
    let following = Following::seated().await;
    let (next, to) = (following.stranger().await, following.to());
    let (home, at) = (&following.home, SEATED + 1);
    // Another server signs, or signs for another entry, or an earlier term is announced.
    let forged = handed(&following, home, |body, _| body.to = next.did.clone());
    assert_eq!(no(&home.replicates(to, &forged, at, at).await), (400, "CheckpointInvalid"));
    let other = handed(&following, &next, |_, head| head.seq = Seq(SEATED - 1));
    assert_eq!(no(&home.replicates(to, &other, at, at).await), (400, "ChainBroken"));
    // A good one between them: only failures in a row count.
    assert_eq!(seq(&home.replicates(to, &following.chain, SEATED, SEATED).await), SEATED);
    let stale = handed(&following, &next, |body, head| body.term = head.term);
    assert_eq!(no(&home.replicates(to, &stale, at, at).await), (400, "ChainBroken"));
    let mut unsigned = handed(&following, &next, |_, _| ());
    unsigned.forge_acceptance(at);
    assert_eq!(no(&home.replicates(to, &unsigned, at, at).await), (400, "CheckpointInvalid"));
    assert_eq!(seq(&home.replicates(to, &following.chain, SEATED, SEATED).await), SEATED);

    next.answers("follow", 503, json!({ "error": "HomeMoving", "message": "not yet" }));
    let mut chain = handed(&following, &next, |_, _| ());
    assert_eq!(seq(&home.replicates(to, &chain, at, at).await), at);
    // The old home goes on, or opens the next term itself: nobody listens.
    let mut on = chain.clone();
    on.message();
    assert_eq!(no(&home.replicates(to, &on, at + 1, at + 1).await), (403, "NotHome"));
    let term = chain.head.term.next();
    let mut usurped = chain.clone();
    usurped.open(&home.did, Term(term.0 + 5));
    assert_eq!(no(&home.replicates(to, &usurped, at + 1, at + 1).await), (403, "NotHome"));
    // The new one cannot go on without opening its term, nor open an earlier one.
    assert_eq!(no(&next.replicates(to, &on, at + 1, at + 1).await), (400, "ChainBroken"));
    let mut early = chain.clone();
    early.open(&home.did, chain.head.term);
    assert_eq!(no(&next.replicates(to, &early, at + 1, at + 1).await), (409, "StaleTerm"));
    chain.open(&home.did, term);
    chain.message();
    assert_eq!(seq(&next.replicates(to, &chain, at + 1, at + 2).await), at + 2);
    assert_eq!(following.held().await, (StreamState::Active, at + 2));
    following.stop().await;
}

/// A conversation of a device of the first server, with Bob of the second in it.
async fn founded(servers: &Federation, mut alice: Handmade) -> (Handmade, Vec<u8>, String, Arc<Person>) {
    alice.register().await.unwrap();
    let (group_id, stream) = alice.found(None).await;
    let bob = servers[1].person("bob").await;
    brings(&mut alice, &group_id, &stream, bob.did()).await;
    arrives(&bob, &stream).await;
    (alice, group_id, stream, bob)
}

async fn brings(alice: &mut Handmade, group_id: &[u8], stream: &str, whom: &Did) {
    let claimed = alice.claim(stream, whom).await;
    adds(alice, group_id, stream, &claimed).await;
}

async fn adds(alice: &mut Handmade, group_id: &[u8], stream: &str, claimed: &[rookery_client::Claimed]) {
    let bundle = alice.change(group_id, stream, claimed, &[]);
    until("a commit", async || alice.procedure::<AddMembers>(&bundle).await.ok()).await;
    alice.mls.confirm(group_id).unwrap();
}

async fn moves_on(servers: &Federation, alice: &Handmade, stream: &str) {
    let order = move_convo::Input { stream: stream.to_owned(), idem: idem(), to: servers[1].did().clone() };
    until("the move", async || alice.procedure::<MoveConvo>(&order).await.ok()).await;
    eventually("the next home orders", async || {
        let row = row(&servers[1], stream).await.unwrap();
        row.home == servers[1].did().as_str() && row.state == StreamState::Active
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_two_keys_commits_after_the_move() {
    let servers = known(2, OPEN).await;
    let alice = Handmade::of_curve(&servers[0], servers[0].account(), Curve::P256);
    let (mut alice, group_id, stream, _bob) = founded(&servers, alice).await;
    moves_on(&servers, &alice, &stream).await;
    let carol = servers[1].person("carol").await;
    brings(&mut alice, &group_id, &stream, carol.did()).await;
    arrives(&carol, &stream).await;
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_in_flight_survives_the_move_to_its_server() {
    let servers = known(2, OPEN).await;
    let alice = Handmade::new(&servers[0], servers[0].account());
    let (mut alice, group_id, stream, _bob) = founded(&servers, alice).await;
    let carol = servers[1].person("carol").await;
    let claimed = alice.claim(&stream, carol.did()).await;
    carol.invitations("nobody").await;
    adds(&mut alice, &group_id, &stream, &claimed).await;
    until("an invitation", async || {
        let waiting = carol.query::<ListInvitations>(&Nothing {}).await.unwrap().invitations;
        (waiting.len() == 1).then_some(())
    })
    .await;
    let views = sqlx::query_scalar::<_, i64>("select count(*) from delivery where body ? 'view'");
    assert_eq!(views.fetch_one(&mut servers[0].database.connect().await).await.unwrap(), 0);

    moves_on(&servers, &alice, &stream).await;
    let yes = accept_convo::Input { stream: stream.clone() };
    carol.procedure::<AcceptConvo>(&yes).await.unwrap();
    arrives(&carol, &stream).await;
    servers.stop().await;
}
