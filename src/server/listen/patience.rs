//! A TCP stream whose waits have time limits.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Limits;
use crate::xrpc::ClientConnection;

/// Bytes that tell HTTP/2 from HTTP/1: until they are there, no protocol's own limit holds.
const PREFACE_BYTES: usize = 24;

pub(super) struct Patience {
    stream: TcpStream,
    /// While the first bytes are missing: how many, and until when they must be there.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    send: Duration,
    /// Since nothing more was taken.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Cancelled when the roster closes the connection to make room.
    shed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Counts the connection until its stream is closed, also after an upgrade.
    _open: ClientConnection,
}

impl Patience {
    pub fn new(stream: TcpStream, limits: Limits, open: ClientConnection) -> Self {
        let opening = Some((PREFACE_BYTES, Box::pin(sleep(limits.header))));
        let shed = Box::pin(open.shed().clone().cancelled_owned());
        Self { stream, opening, send: limits.send, blocked: None, shed, _open: open }
    }

    fn taken<T>(&mut self, cx: &mut Context<'_>, taken: Poll<Result<T, Error>>) -> Poll<Result<T, Error>> {
        if taken.is_ready() {
            self.blocked = None;
            return taken;
        }
        let send = self.send;
        ready!(self.blocked.get_or_insert_with(|| Box::pin(sleep(send))).as_mut().poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patience {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.shed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let Some((missing, until)) = &mut this.opening else { return read };
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            this.opening = None;
        } else if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Patience {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let taken = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.taken(cx, taken)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        let taken = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.taken(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
