//! chitchat's way to the network: every message is sealed.
//!
//! chitchat 0.13 lets nobody outside write or read its messages (the codec is private), but its own UDP socket does. So each
//! message goes through such a socket on loopback, the *codec*, to a socket of ours beside it, and out from there sealed; and
//! the same way back. The codec takes what anybody on this host sends there, so what is not from our socket is thrown away.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use chitchat::transport::{self, RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::counters::Counters;
use crate::edge::seal::{MOST_MESSAGE, MOST_PACKET, NoRandomness, Opened, Opener, Refusal, Sealer};

/// Loopback delivers at once; longer means that a datagram was lost there.
const CODEC_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after an error of the receiving call.
const AFTER_FAULT: Duration = Duration::from_millis(10);
/// chitchat's message "you are of another cluster": it never comes here, since the cluster's name is part of the seal. Behind
/// each message it tells that the codec is through with it, whether it could read it or not.
const FULL_STOP: [u8; 4] = [0x53, 0xb0, ProtocolVersion::V0 as u8, 3];

/// The node's socket and who may send to it, over all boots.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: UdpSocket,
    pub(super) opener: Mutex<Opener>,
    pub(super) counters: Arc<Counters>,
    /// Where peers reach us.
    pub(super) address: SocketAddr,
    /// Nothing leaves this host: there is no key.
    pub(super) loopback_only: bool,
}

impl Wire {
    /// The next message that was sealed by one of the cluster. Safe to drop while it waits.
    async fn receive(&self) -> Opened {
        // One octet more, to see what is too large.
        let mut packet = [0; MOST_PACKET + 1];
        loop {
            let length = match self.socket.recv_from(&mut packet).await {
                Ok((length, _)) => length,
                Err(_) => {
                    self.counters.receive_faults.add_one();
                    tokio::time::sleep(AFTER_FAULT).await;
                    continue;
                }
            };
            self.counters.received(length);
            let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
            match opener.open(&packet[..length], SystemTime::now()) {
                Ok(Some(opened)) => return opened,
                Ok(None) => {}
                Err(cause) => self.counters.refused(cause),
            }
        }
    }

    async fn send(&self, to: SocketAddr, packets: Result<Vec<Vec<u8>>, NoRandomness>) {
        let Ok(packets) = packets else { return self.counters.send_faults.add_one() };
        for packet in packets {
            match self.socket.send_to(&packet, to).await {
                Ok(_) => self.counters.sent(packet.len()),
                Err(_) => self.counters.send_faults.add_one(),
            }
        }
    }

    fn may_send(&self, to: SocketAddr) -> bool {
        !self.loopback_only || to.ip().to_canonical().is_loopback()
    }
}

/// Opens the sealed socket of one boot.
pub(super) struct SealedTransport {
    pub(super) wire: Arc<Wire>,
    /// Taken by the one socket: two sealers of one boot would count alike.
    pub(super) sealer: Mutex<Option<Sealer>>,
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let sealer = self.sealer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sealer = sealer.ok_or_else(|| anyhow::anyhow!("a boot has one socket"))?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let codec = transport::UdpSocket::open(loopback).await?;
        let beside = UdpSocket::bind(loopback).await?;
        beside.connect(codec.local_addr()?).await?;
        beside.writable().await?;
        let address = beside.local_addr()?;
        Ok(Box::new(SealedSocket { wire: self.wire.clone(), sealer, codec, beside, address, reading: None }))
    }
}

struct SealedSocket {
    wire: Arc<Wire>,
    sealer: Sealer,
    /// chitchat's own, which alone can write and read its messages.
    codec: transport::UdpSocket,
    /// Ours, connected to the codec.
    beside: UdpSocket,
    /// Our socket's own.
    address: SocketAddr,
    reading: Option<Reading>,
}

/// A message that the codec was given.
struct Reading {
    answers: SocketAddr,
    /// Whether the codec could read it; its full stop is still to come.
    is_read: bool,
    until: Instant,
}

impl SealedSocket {
    /// The octets of a message.
    async fn encode(&mut self, envelope: ChitchatEnvelope) -> anyhow::Result<Vec<u8>> {
        let mut buffer = vec![0; MOST_MESSAGE];
        // What a send before left behind.
        while self.beside.try_recv(&mut buffer).is_ok() {}
        self.codec.send(self.address, envelope).await?;
        let length = timeout(CODEC_TIMEOUT, self.beside.recv(&mut buffer)).await??;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Gives the codec the octets of a message; what becomes of it comes with [`SealedSocket::decoded`].
    fn decode(&mut self, opened: &Opened) -> io::Result<()> {
        self.beside.try_send(&opened.bytes)?;
        self.reading = Some(Reading { answers: opened.answers, is_read: false, until: Instant::now() + CODEC_TIMEOUT });
        self.beside.try_send(&FULL_STOP).map(|_| ())
    }

    /// What the codec reads next; none when it is through with a message. Safe to drop while it waits.
    async fn decoded(&mut self) -> anyhow::Result<Option<RecvOutcome>> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let is_done = match timeout_at(reading.until, self.codec.recv()).await {
            Ok(read) => {
                let read = read?;
                match read.envelope.message {
                    _ if read.from_addr != self.address => false,
                    ChitchatMessage::BadCluster => true,
                    ChitchatMessage::Syn { .. } | ChitchatMessage::SynAck { .. } | ChitchatMessage::Ack { .. } => {
                        reading.is_read = true;
                        return Ok(Some(RecvOutcome { from_addr: reading.answers, ..read }));
                    }
                }
            }
            Err(_) => true,
        };
        if is_done {
            if !reading.is_read {
                self.wire.counters.refused(Refusal::Unreadable);
            }
            self.reading = None;
        }
        Ok(None)
    }
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.wire.socket.local_addr()?)
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        if to == self.wire.address {
            // Our boot before is a node that is gone, and has our address.
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        if !self.wire.may_send(to) {
            self.wire.counters.send_faults.add_one();
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        let message = self.encode(envelope).await?;
        self.wire.counters.message(message.len());
        self.wire.send(to, self.sealer.seal(&message, SystemTime::now())).await;
        Ok(SendOutcome { num_bytes_sent: message.len() })
    }

    /// chitchat drops this while it waits, to gossip.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            if self.reading.is_some() {
                match self.decoded().await? {
                    Some(read) => return Ok(read),
                    None => continue,
                }
            }
            let opened = self.wire.receive().await;
            if opened.bytes == FULL_STOP || self.decode(&opened).is_err() {
                self.wire.counters.refused(Refusal::Unreadable);
            }
        }
    }
}
