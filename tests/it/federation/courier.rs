//! Followers get what they lack, whatever is in the way of others.

use std::time::Duration;

use crate::support::{TwoServers, eventually};

async fn progress(two: &TwoServers) -> Vec<(i64, i32)> {
    sqlx::query_as("select acked_seq, failures from follower order by stream_id")
        .fetch_all(&mut two.servers[0].database.connect().await)
        .await
        .unwrap()
}

async fn read(two: &TwoServers, stream: &str) -> usize {
    two.bob.entries(stream, 0).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_costs_one_row_however_long_it_is_and_is_made_up_in_order() {
    let mut two = TwoServers::followed().await;
    two.servers[1].pause().await;
    for number in 0..600_u32 {
        two.alice.send(&two.stream, &number.to_be_bytes()).await.unwrap();
    }
    eventually("the home has tried", async || {
        let parked = "select count(*) from follower_peer";
        sqlx::query_scalar::<_, i64>(parked).fetch_one(&mut two.servers[0].database.connect().await).await.unwrap() == 1
    })
    .await;
    assert_eq!(progress(&two).await, [(4, 0)]);
    let bob = std::sync::Arc::clone(&two.bob);
    two.servers[1].resume(&[&bob]).await;
    two.alive().await;
    two.caught_up(&two.stream).await;
    eventually("it is written down", async || progress(&two).await == [(604, 0)]).await;
    let seqs: Vec<u64> = two.bob.entries(&two.stream, 0).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(seqs.last(), Some(&604));
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_that_a_follower_refuses_holds_back_no_other() {
    let two = TwoServers::followed().await;
    let good = two.another().await;
    // What the follower holds of the first is not what the home made: every request is refused.
    let mut follower = two.servers[1].database.connect().await;
    let spoil = "update stream set head_hash = sha256(head_hash) where public_id = $1";
    sqlx::query(spoil).bind(&two.stream).execute(&mut follower).await.unwrap();
    let before = read(&two, &two.stream).await;
    for number in 0..20_u8 {
        two.alice.send(&two.stream, &[number]).await.unwrap();
        two.alice.send(&good, &[number]).await.unwrap();
    }
    eventually("the good stream goes on", async || read(&two, &good).await == 21).await;
    eventually("the bad one waits by itself", async || {
        let rows = progress(&two).await;
        rows[0].1 > 0 && rows[1].1 == 0
    })
    .await;
    assert_eq!(read(&two, &two.stream).await, before);
    two.alice.send(&good, b"still").await.unwrap();
    eventually("the good stream goes on", async || read(&two, &good).await == 22).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_seats_gets_their_last_entry_and_is_forgotten() {
    let two = TwoServers::followed().await;
    two.alice.send(&two.stream, b"together").await.unwrap();
    two.dismiss(&two.stream).await;
    two.alice.send(&two.stream, b"alone").await.unwrap();
    eventually("the follower is forgotten", async || progress(&two).await.is_empty()).await;
    let kinds: Vec<String> =
        two.bob.entries(&two.stream, 0).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, ["#commit", "#message", "#commit"]);

    // Invited again: what lay between comes as headers, and the view says who is there.
    two.invite(&two.stream).await;
    two.alice.send(&two.stream, b"together again").await.unwrap();
    two.caught_up(&two.stream).await;
    let read = two.bob.entries(&two.stream, 0).await.unwrap();
    assert_eq!(read.len(), 5, "nothing of the time between");
    assert_eq!(two.bob.convo(&two.stream).await.unwrap().members.len(), 2);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_answer_of_its_end_was_lost_answers_again() {
    let two = TwoServers::followed().await;
    two.alice.send(&two.stream, b"together").await.unwrap();
    two.dismiss(&two.stream).await;
    eventually("the follower is forgotten", async || progress(&two).await.is_empty()).await;
    let lost = "insert into follower (stream_id, server, from_seq, acked_seq, due_at, created_at)
        select id, $1, 4, 4, now(), now() from stream where public_id = $2";
    sqlx::query(lost)
        .bind(two.servers[1].did().as_str())
        .bind(&two.stream)
        .execute(&mut two.servers[0].database.connect().await)
        .await
        .unwrap();
    two.alice.send(&two.stream, b"alone").await.unwrap();
    eventually("the follower is forgotten again", async || progress(&two).await.is_empty()).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_appended_during_a_request_raise_no_suspicion() {
    let two = TwoServers::followed().await;
    let sending = futures_util::future::join_all((0..8_u8).map(async |sender| {
        for number in 0..40 {
            two.alice.send(&two.stream, &[sender, number]).await.unwrap();
        }
    }));
    let watching = async {
        loop {
            let failures: Vec<i32> = progress(&two).await.into_iter().map(|(_, failures)| failures).collect();
            assert_eq!(failures, [0], "the home suspects that it lost entries");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = sending => {}
        () = watching => {}
    }
    two.caught_up(&two.stream).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_nobody_can_reach_waits_as_a_whole_and_longer_each_time() {
    let two = TwoServers::start().await;
    let gone = two.stranger().await;
    let streams =
        [two.stream.clone(), two.alice.create_convo().await.unwrap(), two.alice.create_convo().await.unwrap()];
    let mut home = two.servers[0].database.connect().await;
    let follow = "insert into follower (stream_id, server, from_seq, acked_seq, due_at, created_at)
        select id, $1, 1, 0, now(), now() from stream where public_id = any($2)";
    sqlx::query(follow).bind(gone.did.as_str()).bind(&streams[..]).execute(&mut home).await.unwrap();
    let seats = "insert into seat (stream_id, account_id, from_seq, role, server)
        select s.id, a.id, 2, 1, $1 from stream s, account a where s.public_id = any($2) and a.did = $3";
    let somebody = "insert into account (did, created_at) values ('did:plc:gone', now())";
    sqlx::query(somebody).execute(&mut home).await.unwrap();
    sqlx::query(seats)
        .bind(gone.did.as_str())
        .bind(&streams[..])
        .bind("did:plc:gone")
        .execute(&mut home)
        .await
        .unwrap();
    drop(gone);
    for stream in &streams {
        two.alice.send(stream, b"anybody?").await.unwrap();
    }
    eventually("it counts as away", async || {
        let failures = "select coalesce(max(failures), 0) from follower_peer";
        sqlx::query_scalar::<_, i32>(failures).fetch_one(&mut home).await.unwrap() >= 2
    })
    .await;
    assert!(progress(&two).await.iter().all(|row| *row == (0, 0)), "no stream is to blame");
    // What was away for an hour is asked every quarter of an hour, and after 30 days forgotten.
    let away = "update follower_peer set failing_since = now() - interval '2 hours', due_at = now()";
    sqlx::query(away).execute(&mut home).await.unwrap();
    two.alice.send(&two.stream, b"still nobody?").await.unwrap();
    eventually("it is parked", async || {
        let parked = "select due_at > now() + interval '10 minutes' from follower_peer";
        sqlx::query_scalar::<_, bool>(parked).fetch_one(&mut home).await.unwrap()
    })
    .await;
    let long_ago = "update follower_peer set failing_since = now() - interval '31 days'";
    sqlx::query(long_ago).execute(&mut home).await.unwrap();
    two.servers[0].server().services().replicas.look_at_everything().await;
    assert!(progress(&two).await.is_empty());
    tokio::time::sleep(Duration::from_millis(10)).await;
    two.stop().await;
}
