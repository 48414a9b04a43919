//! The people of the story, each listening to its own socket from the first moment to the last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use rookery_client::{ClientError, EventCursor, Feed, FeedError, Heard, Received};
use rookery_testkit::Person;

/// How long something may take that should happen within moments.
const SOON: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Somebody's own record of what came.
#[derive(Default)]
pub struct Diary {
    /// Every entry that the socket brought, in the order it came: number and hash, by stream.
    pub entries: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
    /// Every message that was decrypted: number and text, by stream.
    pub texts: BTreeMap<String, Vec<(u64, String)>>,
    /// Messages that could not be decrypted, since they are older than the reader's time.
    pub before_me: usize,
    /// What went wrong, and ended the listening.
    pub failed: Option<String>,
}

impl Diary {
    pub fn last_seq(&self, stream: &str) -> u64 {
        self.entries.get(stream).and_then(|entries| entries.last()).map_or(0, |entry| entry.0)
    }
}

/// A person and its diary.
#[derive(Clone)]
pub struct Player {
    pub person: Arc<Person>,
    /// Whose device it is: the name of the account's first.
    pub account: String,
    diary: Arc<Mutex<Diary>>,
    connections: Arc<AtomicU32>,
}

impl Player {
    /// How often its socket was opened.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn diary(&self) -> MutexGuard<'_, Diary> {
        self.diary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them, by name. Listening ends with the cast.
#[derive(Default)]
pub struct Cast {
    players: BTreeMap<String, Player>,
    /// By the same names.
    listening: BTreeMap<String, AbortHandle>,
}

impl Cast {
    /// From now on the person listens, beginning with the oldest event.
    pub fn enter(&mut self, person: Person) -> Player {
        let account = person.name().to_owned();
        self.enter_as(&account, person)
    }

    /// The same for a further device of somebody's account.
    pub fn enter_as(&mut self, account: &str, person: Person) -> Player {
        let (person, account) = (Arc::new(person), account.to_owned());
        let feed = Feed::new(&person, Some(EventCursor::oldest()));
        let player = Player { person, account, diary: Arc::default(), connections: feed.connections() };
        let name = player.person.name().to_owned();
        self.players.insert(name.clone(), player.clone());
        self.listening.insert(name, tokio::spawn(listen(player.clone(), feed)).abort_handle());
        player
    }

    /// The same device at another server: it listens there, from the oldest event on.
    pub fn move_to(&mut self, name: &str, person: Person) -> anyhow::Result<()> {
        let player = self.players.get_mut(name).with_context(|| format!("nobody is called {name}"))?;
        player.person = Arc::new(person);
        self.listen_anew(name)
    }

    /// Its server has lost its memory: it forgets which entries came, and listens from the oldest event again. What it
    /// decrypted stays as it was.
    pub fn listen_anew(&mut self, name: &str) -> anyhow::Result<()> {
        let player = self.get(name)?.clone();
        if let Some(listening) = self.listening.remove(name) {
            listening.abort();
        }
        {
            let mut diary = player.diary();
            diary.entries.clear();
            diary.failed = None;
        }
        let feed = Feed::new(&player.person, Some(EventCursor::oldest()));
        self.listening.insert(name.to_owned(), tokio::spawn(listen(player, feed)).abort_handle());
        Ok(())
    }

    pub fn get(&self, name: &str) -> anyhow::Result<&Player> {
        self.players.get(name).with_context(|| format!("nobody is called {name}"))
    }

    /// Who comes and goes with this one: the devices of its account, or itself, if it is a further device.
    pub fn devices_of(&self, name: &str) -> Vec<String> {
        let of = |player: &&Player| player.account == name || player.person.name() == name;
        self.all().filter(of).map(|player| player.person.name().to_owned()).collect()
    }

    pub fn all(&self) -> impl Iterator<Item = &Player> {
        self.players.values()
    }

    /// Fails if anybody's listening has; says whose, since what all miss is missed for another reason than what one does.
    pub fn check(&self) -> anyhow::Result<()> {
        let failed = |player: &Player| Some(format!("{}: {}", player.person.name(), player.diary().failed.as_ref()?));
        let failures: Vec<String> = self.all().filter_map(failed).collect();
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(())
    }

    /// Waits until `holds`, or fails with what is still missing.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + SOON;
        while !holds(self) {
            self.check()?;
            if Instant::now() >= until {
                bail!("waited {} s until {what}", SOON.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
        self.check()
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for task in self.listening.values() {
            task.abort();
        }
    }
}

async fn listen(player: Player, mut feed: Feed) {
    loop {
        if let Err(error) = hear(&player, &mut feed).await {
            player.diary().failed = Some(error.to_string());
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Person(#[from] ClientError),
    #[error("a message holds no text")]
    NoText,
}

async fn hear(player: &Player, feed: &mut Feed) -> Result<(), Trouble> {
    let Received::Event(event) = feed.next().await? else { return Ok(()) };
    let heard = player.person.hear(&event).await?;

    let mut diary = player.diary();
    diary.entries.entry(event.stream).or_default().push((event.seq, event.hash.0));
    for heard in heard {
        match heard {
            Heard::Message { stream, seq, plaintext, .. } => {
                let text = String::from_utf8(plaintext).map_err(|_| Trouble::NoText)?;
                diary.texts.entry(stream).or_default().push((seq, text));
            }
            Heard::BeforeMe { .. } => diary.before_me += 1,
            Heard::Joined { .. } | Heard::Own { .. } | Heard::Epoch { .. } | Heard::Gone { .. } => {}
        }
    }
    Ok(())
}
