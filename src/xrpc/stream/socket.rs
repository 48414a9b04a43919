//! The server's side of a WebSocket (RFC 6455) to a client that only listens.
//!
//! Invariants: frames leave whole and in order, also when the future that sends them is dropped; bytes to send are shared
//! with all other receivers, never copied; an idle socket has no buffers; of what a client sends, at most one control frame
//! and [`READ_BYTES`] are in memory, and payloads of data frames are passed over.

use std::collections::VecDeque;
use std::io::{Cursor, Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, OpCode};

/// Bytes that are read at a time: a control frame has at most 131.
const READ_BYTES: usize = 256;
/// The most bytes of a control frame's payload (RFC 6455 section 5.5).
const CONTROL_BYTES: usize = 125;
/// Frames that one write hands to the operating system.
const FRAMES_PER_WRITE: usize = 16;

/// Frames that a server sends: final and without a mask.
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const CLOSE: u8 = 0x88;

/// A frame of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClientFrame {
    Ping(Bytes),
    Pong,
    /// With the status code, if the client gave one.
    Close(Option<u16>),
    /// Any part of a message.
    Data,
}

pub(super) struct Socket<T> {
    transport: T,
    /// Frames that wait to be written.
    unsent: VecDeque<Bytes>,
    /// The beginning of a frame of the client.
    received: Vec<u8>,
    /// Bytes of a data frame's payload that the client has not sent yet.
    passed_over: u64,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<T> {
    /// `received`: what the client sent behind its handshake.
    pub fn new(transport: T, received: Bytes) -> Self {
        Self { transport, unsent: VecDeque::new(), received: received.into(), passed_over: 0 }
    }

    /// Queues a message that is framed already.
    pub fn queue(&mut self, message: Bytes) {
        self.unsent.push_back(message);
    }

    pub fn queue_ping(&mut self) {
        self.unsent.push_back(Bytes::from_static(&[PING, 0]));
    }

    /// Queues the answer to a ping.
    pub fn queue_pong(&mut self, payload: &[u8]) {
        self.queue_control(PONG, payload);
    }

    /// Queues the last frame of the server.
    pub fn queue_close(&mut self, code: Option<u16>, reason: &str) {
        let code = code.map(u16::to_be_bytes);
        self.queue_control(CLOSE, &[code.as_ref().map_or(&[][..], |code| code), reason.as_bytes()].concat());
    }

    fn queue_control(&mut self, first: u8, payload: &[u8]) {
        let payload = &payload[..payload.len().min(CONTROL_BYTES)];
        let length = u8::try_from(payload.len()).unwrap_or_default();
        self.unsent.push_back([&[first, length], payload].concat().into());
    }

    /// Writes everything that is queued.
    pub async fn flush(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(first) = self.unsent.front() {
            let transport = Pin::new(&mut self.transport);
            let mut written = if self.unsent.len() == 1 || !transport.is_write_vectored() {
                ready!(transport.poll_write(cx, first))?
            } else {
                let mut parts = [IoSlice::new(&[]); FRAMES_PER_WRITE];
                for (part, frame) in parts.iter_mut().zip(&self.unsent) {
                    *part = IoSlice::new(frame);
                }
                ready!(transport.poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            while let Some(frame) = self.unsent.front_mut().filter(|_| written > 0) {
                let sent = written.min(frame.len());
                frame.advance(sent);
                written -= sent;
                if frame.is_empty() {
                    self.unsent.pop_front();
                }
            }
        }
        if self.unsent.capacity() > FRAMES_PER_WRITE {
            self.unsent = VecDeque::new();
        }
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    /// The client's next frame; `None` after its last. May be dropped and called again.
    pub async fn receive(&mut self) -> Option<Result<ClientFrame, Error>> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ClientFrame, Error>>> {
        loop {
            if let Some(frame) = self.parse().transpose() {
                return Poll::Ready(Some(frame));
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            if let Err(error) = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read)) {
                return Poll::Ready(Some(Err(error)));
            }
            if read.filled().is_empty() {
                return Poll::Ready(None);
            }
            self.received.extend_from_slice(read.filled());
        }
    }

    /// Takes the next whole frame from the received bytes.
    fn parse(&mut self) -> Result<Option<ClientFrame>, Error> {
        let passed = usize::try_from(self.passed_over).unwrap_or(usize::MAX).min(self.received.len());
        self.take(passed);
        self.passed_over -= passed as u64;
        let mut cursor = Cursor::new(&self.received);
        let header = FrameHeader::parse(&mut cursor).map_err(|_| broken("a frame's header"))?;
        let Some((header, length)) = header else { return Ok(None) };
        let begin = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let mask = header.mask.ok_or_else(|| broken("a frame without a mask"))?;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(broken("an extension that was not negotiated"));
        }
        let OpCode::Control(control) = header.opcode else {
            self.passed_over = length;
            self.take(begin);
            return Ok(Some(ClientFrame::Data));
        };
        let length = usize::try_from(length).ok().filter(|length| header.is_final && *length <= CONTROL_BYTES);
        let end = begin + length.ok_or_else(|| broken("a control frame in parts, or too large"))?;
        let Some(payload) = self.received.get(begin..end) else { return Ok(None) };
        let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        self.take(end);
        Ok(Some(match control {
            Control::Ping => ClientFrame::Ping(payload.into()),
            Control::Pong => ClientFrame::Pong,
            Control::Close => ClientFrame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            Control::Reserved(_) => return Err(broken("an unknown control frame")),
        }))
    }

    /// Drops received bytes, and the memory for them if they were all.
    fn take(&mut self, bytes: usize) {
        if bytes == self.received.len() {
            self.received = Vec::new();
        } else {
            self.received.drain(..bytes);
        }
    }
}

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::log::binary_message;

    /// A socket, and a client of another implementation, with so many bytes between them.
    async fn pair(bytes: usize) -> (Socket<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (server, client) = duplex(bytes);
        (Socket::new(server, Bytes::new()), WebSocketStream::from_raw_socket(client, Role::Client, None).await)
    }

    #[tokio::test]
    async fn messages_of_any_length_arrive_whole_and_in_order() {
        let (mut socket, mut client) = pair(1_000).await;
        let lengths = [0, 1, 125, 126, 5_000, 65_535, 65_536, 300_000];
        let sending = tokio::spawn(async move {
            for length in lengths.repeat(5) {
                socket.queue(binary_message(&[&vec![7; length]]));
            }
            socket.flush().await.unwrap();
            socket.unsent.capacity()
        });
        for length in lengths.repeat(5) {
            assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![7; length]));
        }
        assert!(sending.await.unwrap() <= FRAMES_PER_WRITE);
    }

    #[tokio::test]
    async fn a_write_that_was_dropped_goes_on_where_it_ended() {
        let (mut socket, mut client) = pair(100).await;
        socket.queue(binary_message(&[&[1; 1_000]]));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), socket.flush()).await.is_err());
        socket.queue(binary_message(&[&[2; 10]]));
        let sending = tokio::spawn(async move { socket.flush().await.unwrap() });
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![1; 1_000]));
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![2; 10]));
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn control_frames_of_both_sides_arrive() {
        let (mut socket, mut client) = pair(1_000).await;
        client.send(Message::Ping(vec![9; 125].into())).await.unwrap();
        client.send(Message::Pong(vec![3].into())).await.unwrap();
        client.send(Message::binary(vec![1; 700])).await.unwrap();
        assert_eq!(socket.receive().await.unwrap().unwrap(), ClientFrame::Ping(vec![9; 125].into()));
        assert_eq!(socket.receive().await.unwrap().unwrap(), ClientFrame::Pong);
        assert_eq!(socket.receive().await.unwrap().unwrap(), ClientFrame::Data);
        client.close(None).await.unwrap();
        assert_eq!(socket.receive().await.unwrap().unwrap(), ClientFrame::Close(None), "behind the payload");
        assert_eq!(socket.received.capacity(), 0);

        socket.queue_ping();
        socket.queue_pong(&[9]);
        socket.queue_close(Some(1008), "why");
        socket.flush().await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Ping(Bytes::new()));
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(vec![9].into()));
        let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else { panic!("no close frame") };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "why"));
        drop(client);
        assert!(socket.receive().await.is_none());
    }

    #[tokio::test]
    async fn a_frame_in_pieces_is_put_together() {
        let (server, mut client) = duplex(1_000);
        // A close frame with the code 1000, masked by 1, 2, 3, 4.
        let (first, rest) = ([0x88, 0x82, 1], [2, 3, 4, 3 ^ 1, 0xe8 ^ 2]);
        let mut socket = Socket::new(server, Bytes::copy_from_slice(&first));
        for byte in rest {
            assert!(futures_util::FutureExt::now_or_never(socket.receive()).is_none());
            client.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(socket.receive().await.unwrap().unwrap(), ClientFrame::Close(Some(1000)));
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_is_an_error() {
        for bytes in [
            &[0x89, 0][..],                    // without a mask
            &[0x09, 0x80, 0, 0, 0, 0],         // a ping in parts
            &[0x89, 0xfe, 0, 126, 0, 0, 0, 0], // a ping that is too large
            &[0xc9, 0x80, 0, 0, 0, 0],         // a reserved bit
            &[0x8b, 0x80, 0, 0, 0, 0],         // an unknown control frame
            &[0x83, 0x80, 0, 0, 0, 0],         // an unknown kind of data
        ] {
            let (server, _client) = duplex(1_000);
            let mut socket = Socket::new(server, Bytes::copy_from_slice(bytes));
            assert!(socket.receive().await.unwrap().is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn an_endless_message_takes_no_memory() {
        let (server, mut client) = duplex(100_000);
        let mut socket = Socket::new(server, Bytes::new());
        client.write_all(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]).await.unwrap();
        client.write_all(&vec![0; 50_000]).await.unwrap();
        assert_eq!(socket.receive().await.unwrap().unwrap(), ClientFrame::Data);
        assert!(futures_util::FutureExt::now_or_never(socket.receive()).is_none());
        assert_eq!(socket.received.capacity(), 0);
        drop(socket);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
