//! What `mls.addMembers` and `mls.removeMembers` have in common: one intake, and so the same refusals.

use std::sync::Arc;

use rookery::lexicon::mls::add_members::{self, AddMembers};
use rookery::lexicon::mls::get_group_state::{self, GetGroupState};
use rookery::lexicon::mls::remove_members::{self, RemoveMembers};
use rookery::types::Bytes;
use rookery_client::Claimed;
use rookery_testkit::Person;

use crate::support::{Handmade, TestServer, addition, bytes, certify, conversation, refused, removal};

type Bundle = add_members::Input;

/// The same bundle for the other method: they differ in what must not be empty.
pub fn as_removal(bundle: &Bundle) -> remove_members::Input {
    let Bundle { stream, idem, commit, group_info, welcome, adds, removes } = bundle.clone();
    let removes = removes.unwrap_or_default();
    let (welcome, adds) = (Some(welcome), Some(adds));
    remove_members::Input { stream, idem, commit, group_info, welcome, adds, removes }
}

/// Both methods refuse it by that name.
async fn both_refuse(caller: &Person, bundle: &Bundle, status: u16, error: &str) {
    refused(caller.procedure::<AddMembers>(bundle).await, status, error);
    refused(caller.procedure::<RemoveMembers>(&as_removal(bundle)).await, status, error);
}

/// Alice, who founded, Bob and Carol; and Dave, claimed for the conversation.
struct Scene {
    server: TestServer,
    stream: String,
    people: Vec<Arc<Person>>,
    dave: Vec<Claimed>,
}

impl Scene {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let (stream, people) = conversation(&server, 3).await;
        let dave = server.newcomer("dave", 2).await;
        let dave = people[0].claim(&stream, &[dave.did().clone()]).await.unwrap();
        Self { server, stream, people, dave }
    }

    /// Adds Dave and removes Carol, so that it is good for either method.
    async fn draft(&self, by: &Person) -> Bundle {
        by.draft_commit(&self.stream, &self.dave, &[self.people[2].did().clone()]).await.unwrap()
    }

    async fn claim(&self, of: &Person) -> Claimed {
        self.people[0].claim(&self.stream, &[of.did().clone()]).await.unwrap().remove(0)
    }

    fn alice(&self) -> &Person {
        &self.people[0]
    }
}

#[tokio::test]
async fn a_bundle_whose_parts_are_not_what_they_should_be_is_refused_by_the_part() {
    let scene = Scene::new().await;
    let alice = scene.alice();
    let good = scene.draft(alice).await;
    let group_id = alice.convo(&scene.stream).await.unwrap().group_id.0;
    let state = get_group_state::Params { stream: scene.stream.clone(), if_not: None };
    let present = alice.query::<GetGroupState>(&state).await.unwrap().group_info.unwrap();
    let elsewhere = alice.create_convo().await.unwrap();
    let other = alice.draft_commit(&elsewhere, &[], &[]).await.unwrap();
    let message = alice.draft_message(&scene.stream, b"hello").await.unwrap().ciphertext;
    let again = scene.draft(alice).await;
    let erin = scene.server.newcomer("erin", 1).await;
    let erin = scene.claim(&erin).await;
    let for_erin = alice.draft_commit(&scene.stream, &[erin], &[]).await.unwrap();

    let commit = |commit: Vec<u8>| Bundle { commit: Bytes(commit), ..good.clone() };
    let info = |group_info: Vec<u8>| Bundle { group_info: Bytes(group_info), ..good.clone() };
    let welcome = |welcome: Vec<u8>| Bundle { welcome: Bytes(welcome), ..good.clone() };
    for (what, bundle, status, error) in [
        ("no commit", commit(vec![]), 400, "MalformedMessage"),
        ("a commit and more", commit(bytes::longer(&good.commit.0)), 400, "MalformedMessage"),
        ("a message", commit(message.0), 400, "NotACommit"),
        ("a commit in the open", commit(bytes::public_commit(&group_id, 1)), 400, "WrongWireFormat"),
        ("of another group", commit(other.commit.0), 400, "GroupIdMismatch"),
        ("of an epoch to come", commit(bytes::with_epoch(&good.commit.0, 2)), 409, "FutureEpoch"),
        ("of an epoch that is over", commit(bytes::with_epoch(&good.commit.0, 0)), 409, "StaleEpoch"),
        ("no GroupInfo", info(vec![]), 400, "MalformedMessage"),
        ("the GroupInfo of before", info(present.0), 400, "InvalidGroupInfo"),
        ("a GroupInfo that is not signed", info(bytes::flipped(&good.group_info.0)), 400, "InvalidGroupInfo"),
        ("another group's GroupInfo", info(other.group_info.0), 400, "InvalidGroupInfo"),
        ("a Welcome and more", welcome(bytes::longer(&good.welcome.0)), 400, "MalformedMessage"),
        ("a Welcome for somebody else", welcome(for_erin.welcome.0), 400, "WelcomeMismatch"),
    ] {
        println!("{what}");
        both_refuse(alice, &bundle, status, error).await;
    }
    assert_eq!(alice.convo(&scene.stream).await.unwrap().epoch, 1, "nothing happened");
    let taken = alice.procedure::<RemoveMembers>(&as_removal(&again)).await.unwrap();
    assert_eq!(taken.epoch, 2);
    scene.server.stop().await;
}

#[tokio::test]
async fn what_is_declared_is_what_the_tree_shows() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.alice(), &scene.people[1]);
    let good = scene.draft(alice).await;
    bob.publish(1, false).await.unwrap();
    let bob_again = scene.claim(bob).await;
    let erin = scene.server.newcomer("erin", 3).await;
    let erins = scene.claim(&erin).await;
    let elsewhere = alice.create_convo().await.unwrap();
    let erin_elsewhere = alice.claim(&elsewhere, &[erin.did().clone()]).await.unwrap().remove(0);

    let adds = |adds: &[&Claimed]| Bundle { adds: adds.iter().map(|one| addition(one)).collect(), ..good.clone() };
    let removes = |removes: &[&Person]| Bundle {
        removes: Some(removes.iter().map(|one| removal(one)).collect()),
        ..good.clone()
    };
    let dave = &scene.dave[0];
    let mut nobodys = dave.clone();
    nobodys.reference = Bytes(vec![9; 32]);
    let mut others_name = dave.clone();
    others_name.account = erin.did().clone();
    for (what, bundle, status, error) in [
        ("another one than is added", adds(&[&erins]), 400, "MembershipMismatch"),
        ("more than are added", adds(&[dave, &erins]), 400, "MembershipMismatch"),
        ("another one than is removed", removes(&[bob]), 400, "MembershipMismatch"),
        ("more than are removed", removes(&[&scene.people[2], bob]), 400, "MembershipMismatch"),
        ("somebody who is no member", removes(&[&erin]), 400, "MembershipMismatch"),
        ("itself", removes(&[alice]), 400, "MembershipMismatch"),
        ("a member already", adds(&[&bob_again]), 409, "DuplicateMember"),
        ("a ref that nobody published", adds(&[&nobodys]), 400, "KeyPackageUnknown"),
        ("a ref of another account", adds(&[&others_name]), 400, "KeyPackageUnknown"),
        ("a ref that was claimed for another stream", adds(&[&erin_elsewhere]), 400, "KeyPackageUnknown"),
    ] {
        println!("{what}");
        both_refuse(alice, &bundle, status, error).await;
    }
    scene.server.stop().await;
}

#[tokio::test]
async fn a_leaf_that_names_somebody_else_is_refused() {
    let scene = Scene::new().await;
    let mallory = Handmade::new(&scene.server, scene.server.account());
    mallory.register().await.unwrap();
    mallory.publish(mallory.mls.key_package(false).unwrap()).await.unwrap();
    let mut claimed = scene.alice().claim(&scene.stream, &[mallory.did().clone()]).await.unwrap();
    // Mallory's key says that it is Bob's.
    claimed[0].key_package = Bytes(mallory.impostor(scene.people[1].did()).key_package(false).unwrap());
    let carol = scene.people[2].did().clone();
    let bundle = scene.alice().draft_commit(&scene.stream, &claimed, &[carol]).await.unwrap();
    both_refuse(scene.alice(), &bundle, 400, "CredentialMismatch").await;
    scene.server.stop().await;
}

#[tokio::test]
async fn who_may_commit_is_a_certified_device_in_the_group_with_the_right_to_it() {
    let scene = Scene::new().await;
    let (alice, bob, carol) = (scene.alice(), &scene.people[1], &scene.people[2]);
    let bundle = scene.draft(alice).await;
    let stranger = scene.server.person("stranger").await;
    both_refuse(&stranger, &bundle, 404, "StreamNotFound").await;
    let nowhere = Bundle { stream: "sfqpona3sefnrzydeijvvzw6u54sydlha".to_owned(), ..bundle.clone() };
    both_refuse(alice, &nowhere, 404, "StreamNotFound").await;

    let second = scene.server.second_device(alice).await;
    both_refuse(&second, &bundle, 403, "DeviceUncertified").await;
    certify(alice, &second).await;
    both_refuse(&second, &bundle, 403, "DeviceNotInGroup").await;
    both_refuse(bob, &scene.draft(bob).await, 403, "NotAuthorized").await;

    let carols = carol.draft_commit(&scene.stream, &scene.dave, &[bob.did().clone()]).await.unwrap();
    alice.remove_members(&scene.stream, &[carol.did().clone()]).await.unwrap();
    both_refuse(carol, &carols, 403, "NotMember").await;
    scene.server.stop().await;
}

#[tokio::test]
async fn an_account_has_no_more_devices_than_the_policy_allows() {
    let server = TestServer::start().await;
    let mut alice = Handmade::new(&server, server.account());
    alice.register().await.unwrap();
    let (group_id, stream) = alice.found(Some(1)).await;
    let (bob, carol) = (server.newcomer("bob", 3).await, server.newcomer("carol", 1).await);
    let adds = alice.claim(&stream, carol.did()).await;
    let bundle = alice.change(&group_id, &stream, &adds, &[]);
    alice.procedure::<AddMembers>(&bundle).await.unwrap();
    alice.mls.confirm(&group_id).unwrap();

    let second = server.second_device(&bob).await;
    certify(&bob, &second).await;
    let both = alice.claim(&stream, bob.did()).await;
    assert_eq!(both.len(), 2, "one package for each certified device");
    let bundle = alice.change(&group_id, &stream, &both, &[&carol]);
    let refusal = refused(alice.procedure::<AddMembers>(&bundle).await, 409, "TooManyDevices");
    assert_eq!(refusal.body["maxDevices"], 1);
    refused(alice.procedure::<RemoveMembers>(&as_removal(&bundle)).await, 409, "TooManyDevices");
    alice.mls.discard(&group_id).unwrap();
    let bundle = alice.change(&group_id, &stream, &both[..1], &[&carol]);
    assert_eq!(alice.procedure::<RemoveMembers>(&as_removal(&bundle)).await.unwrap().epoch, 2);
    server.stop().await;
}

#[tokio::test]
async fn a_commit_under_the_name_of_another_is_a_conflict_and_the_same_one_gets_its_answer() {
    let scene = Scene::new().await;
    let alice = scene.alice();
    let (first, second) = (scene.draft(alice).await, scene.draft(alice).await);
    let taken = alice.procedure::<AddMembers>(&first).await.unwrap();
    let other = Bundle { idem: first.idem.clone(), ..second };
    refused(alice.procedure::<AddMembers>(&other).await, 409, "IdempotencyConflict");
    // The name is one of this method: to the other it is another call, and its key package is used.
    refused(alice.procedure::<RemoveMembers>(&as_removal(&first)).await, 400, "KeyPackageUnknown");
    assert_eq!(alice.procedure::<AddMembers>(&first).await.unwrap(), taken);
    scene.server.stop().await;
}
