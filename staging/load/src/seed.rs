//! Rows that SQL writes where calls would take too long: seats of accounts, members without a client, and messages.
//!
//! Invariants: this module alone writes rows. A server reads the rows as those of its own calls: each message continues
//! the hash chain of its stream, has a position below the horizon, and decodes. The rows belong to conversations that
//! the server founded.

use anyhow::Context;
use rookery::log::chain::{Content, Head};
use rookery::log::{EntryKind, Sealed};
use rookery::types::{DeviceId, Did, Epoch, Hash, Seq, StreamId, Term, UnixMillis, base32_lower};
use sqlx::{Connection, PgConnection};

/// The most entries that one transaction may write: positions have ten bits for them.
const ENTRIES_PER_TRANSACTION: usize = 1024;
/// Bytes of the body of a written message.
const BODY_BYTES: usize = 512;
/// Bytes of a public key and of an account's random id.
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 15;

/// A connection that writes rows.
pub struct Seed(PgConnection);

/// The end of a stream, from its row.
#[derive(sqlx::FromRow)]
struct StreamEnd {
    id: i64,
    public_id: String,
    term: i64,
    epoch: i64,
    head_seq: i64,
    head_hash: Vec<u8>,
    head_ms: i64,
}

impl Seed {
    pub async fn at(database: &str) -> anyhow::Result<Self> {
        Ok(Self(PgConnection::connect(database).await?))
    }

    /// Seats accounts in streams, as members that see all that the founder sees.
    pub async fn seats(&mut self, seats: &[(&str, &Did)]) -> anyhow::Result<()> {
        let streams: Vec<&str> = seats.iter().map(|(stream, _)| *stream).collect();
        let accounts: Vec<&str> = seats.iter().map(|(_, account)| account.as_str()).collect();
        let written = sqlx::query(
            "insert into seat (stream_id, account_id, from_seq, role, server)
             select t.id, a.id, f.from_seq, 1, f.server
             from unnest($1::text[], $2::text[]) s (stream, account)
             join stream t on t.public_id = s.stream
             join account a on a.did = s.account
             cross join lateral (
                 select from_seq, server from seat where stream_id = t.id order by from_seq, account_id limit 1
             ) f",
        )
        .bind(&streams)
        .bind(&accounts)
        .execute(&mut self.0)
        .await
        .context("writing seats")?;
        anyhow::ensure!(usize::try_from(written.rows_affected())? == seats.len(), "a seat has no account or no stream");
        Ok(())
    }

    /// Adds members to a stream, each a new account with one device, a seat and a leaf, which no client holds.
    pub async fn members(&mut self, stream: &str, count: usize) -> anyhow::Result<()> {
        let (mut dids, mut devices, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let key = rand::random::<[u8; KEY_BYTES]>();
            dids.push(format!("did:plc:{}", base32_lower(&rand::random::<[u8; ID_BYTES]>())));
            devices.push(DeviceId::of_key(&key).to_string());
            keys.push(key.to_vec());
        }
        let mut tx = self.0.begin().await?;
        sqlx::query("insert into account (did, created_at) select did, now() from unnest($1::text[]) n (did)")
            .bind(&dids)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "insert into device (account_id, public_id, public_key, alg, kind, state, created_at, last_seen_at)
             select a.id, n.device, n.key, 'EdDSA', 'app', 'certified', now(), now()
             from unnest($1::text[], $2::text[], $3::bytea[]) n (did, device, key) join account a on a.did = n.did",
        )
        .bind(&dids)
        .bind(&devices)
        .bind(&keys)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "with member as (
                 select d.id as device_id, d.account_id, d.public_key, t.id as stream_id, f.from_seq, f.server
                 from unnest($1::text[]) n (did)
                 join account a on a.did = n.did
                 join device d on d.account_id = a.id
                 join stream t on t.public_id = $2
                 cross join lateral (
                     select from_seq, server from seat where stream_id = t.id order by from_seq, account_id limit 1
                 ) f
             ),
             key as (insert into device_key (public_key, device_id) select public_key, device_id from member),
             leaf as (insert into leaf_key (stream_id, device_id, public_key)
                      select stream_id, device_id, public_key from member),
             seated as (insert into seat_device (stream_id, device_id, account_id, from_seq)
                        select stream_id, device_id, account_id, from_seq from member)
             insert into seat (stream_id, account_id, from_seq, role, server)
             select stream_id, account_id, from_seq, 1, server from member",
        )
        .bind(&dids)
        .bind(stream)
        .execute(&mut *tx)
        .await?;
        tx.commit().await.context("writing members")?;
        Ok(())
    }

    /// Appends so many messages of this author to each of these streams, in turns over the streams.
    pub async fn messages(
        &mut self,
        streams: &[String],
        author: (&Did, &DeviceId),
        messages: usize,
    ) -> anyhow::Result<()> {
        let (account, device): (i64, i64) =
            sqlx::query_as("select account_id, id from device where public_id = $1 and state <> 'foreign'")
                .bind(author.1.as_str())
                .fetch_one(&mut self.0)
                .await?;
        let mut ends: Vec<StreamEnd> = sqlx::query_as(
            "select id, public_id, term, epoch, head_seq, head_hash,
                    (extract(epoch from head_time) * 1000)::bigint as head_ms
             from stream where public_id = any($1)",
        )
        .bind(streams)
        .fetch_all(&mut self.0)
        .await?;
        anyhow::ensure!(ends.len() == streams.len(), "a stream is missing");
        anyhow::ensure!((1..=ENTRIES_PER_TRANSACTION).contains(&ends.len()), "between 1 and 1,024 streams at a time");
        let (mut left, most) = (messages, ENTRIES_PER_TRANSACTION / ends.len());
        while left > 0 {
            let per_stream = left.min(most);
            self.append(&mut ends, author, (account, device), per_stream).await.context("writing messages")?;
            left -= per_stream;
        }
        Ok(())
    }

    /// Appends `per_stream` messages to each stream, in one transaction.
    async fn append(
        &mut self,
        ends: &mut [StreamEnd],
        author: (&Did, &DeviceId),
        (account, device): (i64, i64),
        per_stream: usize,
    ) -> anyhow::Result<()> {
        let mut tx = self.0.begin().await?;
        let position = "select base + (pg_current_xact_id()::text::bigint << 10) from log_origin";
        let first: i64 = sqlx::query_scalar(position).fetch_one(&mut *tx).await?;
        let mut rows = EntryRows::default();
        for _ in 0..per_stream {
            for end in ends.iter_mut() {
                let content = Content::new(random_body(), Some((author.0.clone(), author.1.clone())));
                let (sealed, epoch) = (end.seal(&content)?, end.epoch);
                rows.push(end.id, epoch, &sealed, first)?;
            }
        }
        rows.insert(&mut tx, (account, device)).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl StreamEnd {
    fn seal(&mut self, content: &Content) -> anyhow::Result<Sealed> {
        let number = |value: i64| u64::try_from(value).context("a negative number in a stream");
        let mut head = Head {
            stream: StreamId::parse(&self.public_id)?,
            term: Term(number(self.term)?),
            seq: Seq(number(self.head_seq)?),
            hash: Hash::from_slice(&self.head_hash).context("a hash of another length")?,
            time: UnixMillis(self.head_ms),
        };
        let epoch = Some(Epoch(number(self.epoch)?));
        let sealed = head.seal(EntryKind::Message, epoch, content, UnixMillis(self.head_ms))?;
        (self.head_seq, self.head_hash) = (i64::try_from(head.seq.0)?, head.hash.to_vec());
        Ok(sealed)
    }
}

/// The columns of entries.
#[derive(Default)]
struct EntryRows {
    streams: Vec<i64>,
    seqs: Vec<i64>,
    positions: Vec<i64>,
    epochs: Vec<i64>,
    times_ms: Vec<i64>,
    headers: Vec<Vec<u8>>,
    contents: Vec<Vec<u8>>,
    hashes: Vec<Vec<u8>>,
}

impl EntryRows {
    fn push(&mut self, stream: i64, epoch: i64, sealed: &Sealed, first_position: i64) -> anyhow::Result<()> {
        self.positions.push(first_position + i64::try_from(self.positions.len())?);
        self.streams.push(stream);
        self.seqs.push(i64::try_from(sealed.seq.0)?);
        self.epochs.push(epoch);
        self.times_ms.push(sealed.time.0);
        self.headers.push(sealed.header.clone());
        self.contents.push(sealed.content.clone());
        self.hashes.push(sealed.hash.to_vec());
        Ok(())
    }

    /// Writes the entries, and the heads of their streams.
    async fn insert(&self, connection: &mut PgConnection, (account, device): (i64, i64)) -> anyhow::Result<()> {
        sqlx::query(
            "with message as materialized (
                 select *, timestamptz 'epoch' + ms * interval '1 millisecond' as created_at,
                        floor(extract(epoch from now()) / 604800)::smallint as week
                 from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[],
                             $7::bytea[], $8::bytea[]) e (stream_id, seq, pos, epoch, ms, header, content, hash)
             ), contents as (
                 insert into content (week, pos, bytes) select week, pos, content from message
             )
             insert into entry (stream_id, seq, pos, epoch, created_at, header, content_bytes, week, hash, kind, author,
                                device)
             select stream_id, seq, pos, epoch, created_at, header, octet_length(content), week, hash, $9, $10, $11
             from message",
        )
        .bind(&self.streams)
        .bind(&self.seqs)
        .bind(&self.positions)
        .bind(&self.epochs)
        .bind(&self.times_ms)
        .bind(&self.headers)
        .bind(&self.contents)
        .bind(&self.hashes)
        .bind(EntryKind::Message.to_db())
        .bind(account)
        .bind(device)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "update stream t
             set head_seq = e.seq, head_pos = e.pos, head_time = e.created_at, head_hash = e.hash,
                 size_bytes = t.size_bytes + n.bytes
             from (
                 select stream_id, max(seq) as seq, sum(octet_length(header) + octet_length(content)) as bytes
                 from unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) u (stream_id, seq, header, content)
                 group by stream_id
             ) n join entry e on e.stream_id = n.stream_id and e.seq = n.seq
             where t.id = n.stream_id",
        )
        .bind(&self.streams)
        .bind(&self.seqs)
        .bind(&self.headers)
        .bind(&self.contents)
        .execute(&mut *connection)
        .await?;
        Ok(())
    }
}

fn random_body() -> Vec<u8> {
    (0..BODY_BYTES / KEY_BYTES).flat_map(|_| rand::random::<[u8; KEY_BYTES]>()).collect()
}
