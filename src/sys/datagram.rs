//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, with the addresses and sizes that travel beside them.
//!
//! The kernel may hand over several datagrams of one flow as one message (UDP_GRO), and takes several of one size as
//! one message (UDP_SEGMENT). Here a *message* is what one place of a batch holds: one datagram or more.

mod control;
mod inbox;
mod name;
mod outbox;

pub use self::{
    inbox::{Inbox, Message, PLACE_BYTES, Sender},
    outbox::{Item, Letter, Outbox, Told, send},
};

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, ops::ControlFlow};

    use proptest::prelude::*;

    use super::*;
    use crate::sys::option;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        option::put_datagrams_together(&socket).unwrap();
        socket
    }

    /// Everything that waits, datagram by datagram, and in how many messages it came.
    fn receive_all(socket: &UdpSocket, inbox: &mut Inbox) -> (Vec<Vec<u8>>, usize) {
        let (mut datagrams, mut messages) = (Vec::new(), 0);
        while let Ok(count) = inbox.receive(socket, Sender::Anybody, 0, inbox.places()) {
            for message in (0..count).map(|place| inbox.message(place).unwrap()) {
                assert!(!message.truncated);
                messages += 1;
                match message.bytes {
                    [] => datagrams.push(Vec::new()),
                    bytes => datagrams.extend(bytes.chunks(message.segment).map(<[u8]>::to_vec)),
                }
            }
        }
        (datagrams, messages)
    }

    /// Receives what `sent` says, and sends it on from the inbox to `sink`.
    fn pass_on(sent: &[Vec<u8>], together: bool) -> (Vec<Vec<u8>>, usize) {
        let [source, middle, sink] = [(); 3].map(|()| socket());
        for bytes in sent {
            source.send_to(bytes, middle.local_addr().unwrap()).unwrap();
        }
        let (mut inbox, mut outbox) = (Inbox::new(8), Outbox::new(8));
        let mut total = 0;
        while total < sent.len() {
            let count = inbox.receive(&middle, Sender::Anybody, 0, 8).unwrap();
            for place in 0..count {
                let message = inbox.message(place).unwrap();
                assert_eq!(message.source, Some(source.local_addr().unwrap()));
                let to = Some(sink.local_addr().unwrap());
                outbox.push(Letter { tag: 1, place, to, from: None, together }, &message);
            }
            let mut told_datagrams = 0;
            let rest = outbox.flush(&middle, &inbox, |_, told| {
                match told {
                    Told::Sent(datagrams, _) => told_datagrams += datagrams,
                    other => panic!("{other:?}"),
                }
                ControlFlow::Continue(())
            });
            assert_eq!((rest, told_datagrams, outbox.is_empty()), (None, count, true));
            total += count;
        }
        receive_all(&sink, &mut inbox)
    }

    #[test]
    fn a_batch_of_one_size_leaves_as_one_message() {
        let sent = vec![vec![7; 1200]; 8];
        let (came, messages) = pass_on(&sent, true);
        assert!(came == sent);
        assert_eq!(messages, 1);
        let (came, messages) = pass_on(&sent, false);
        assert!(came == sent);
        assert_eq!(messages, 8);
    }

    #[test]
    fn a_datagram_without_room_is_known_to_be_cut_and_the_next_one_is_whole() {
        let (source, middle, mut inbox) = (socket(), socket(), Inbox::with_room(4, 100));
        for size in [100, 101, 5000, 99] {
            source.send_to(&vec![7; size], middle.local_addr().unwrap()).unwrap();
            assert_eq!(inbox.receive(&middle, Sender::Anybody, 0, 4).unwrap(), 1);
            let message = inbox.message(0).unwrap();
            assert_eq!((message.truncated, message.bytes.len()), (size > 100, size.min(100)));
        }
    }

    #[test]
    fn a_refusal_breaks_off_and_says_where() {
        let (deaf, sender, mut inbox) = (socket(), socket(), Inbox::new(4));
        let middle = socket();
        for byte in 0..4 {
            sender.send_to(&[byte; 3], middle.local_addr().unwrap()).unwrap();
        }
        assert_eq!(inbox.receive(&middle, Sender::Anybody, 0, 4).unwrap(), 4);
        middle.connect(deaf.local_addr().unwrap()).unwrap();
        drop(deaf);
        // On this host the refusal of one datagram is known before the next one is sent.
        send(&middle, b"x", None, None).unwrap();
        let mut outbox = Outbox::new(4);
        for place in 0..4 {
            let letter = Letter { tag: 0, place, to: None, from: None, together: false };
            outbox.push(letter, &inbox.message(place).unwrap());
        }
        let mut sent = 0;
        let rest = outbox.flush(&middle, &inbox, |_, told| match told {
            Told::Sent(datagrams, _) => {
                sent += datagrams;
                ControlFlow::Continue(())
            }
            told => {
                assert!(
                    matches!(&told, Told::Failed(error) if error.raw_os_error() == Some(libc::ECONNREFUSED))
                );
                ControlFlow::Break(())
            }
        });
        assert_eq!((rest, sent, outbox.is_empty()), (Some(0), 0, true));
    }

    #[test]
    fn an_error_comes_before_what_waits_and_takes_nothing() {
        let (deaf, middle, mut inbox) = (socket(), socket(), Inbox::new(4));
        let address = deaf.local_addr().unwrap();
        middle.connect(address).unwrap();
        deaf.send_to(b"last words", middle.local_addr().unwrap()).unwrap();
        drop(deaf);
        send(&middle, b"x", None, None).unwrap();
        let error = inbox.receive(&middle, Sender::Peer, 0, 4).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(inbox.receive(&middle, Sender::Peer, 0, 4).unwrap(), 1);
        let message = inbox.message(0).unwrap();
        assert_eq!((message.bytes, message.source), (&b"last words"[..], None));
    }

    #[test]
    fn an_address_to_answer_from_is_told_and_used() {
        let (middle, client) = (UdpSocket::bind("0.0.0.0:0").unwrap(), socket());
        option::tell_destination(&middle, true).unwrap();
        let asked = std::net::SocketAddr::from(([127, 0, 0, 9], middle.local_addr().unwrap().port()));
        client.send_to(b"x", asked).unwrap();
        let mut inbox = Inbox::new(1);
        assert_eq!(inbox.receive(&middle, Sender::Anybody, 0, 1).unwrap(), 1);
        let message = inbox.message(0).unwrap();
        assert_eq!(message.destination, Some(asked.ip()));
        send(&middle, b"y", message.source, message.destination).unwrap();
        assert_eq!(client.recv_from(&mut [0; 4]).unwrap().1, asked);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// Few sizes, so that runs of one size come up.
        #[test]
        fn whatever_is_put_together_comes_apart_again(
            sizes in prop::collection::vec(prop::sample::select(vec![0usize, 1, 2, 700, 701, 5_000]), 1..24),
            together in any::<bool>(),
        ) {
            let datagram = |(number, size): (usize, &usize)| vec![number as u8; *size];
            let sent: Vec<_> = sizes.iter().enumerate().map(datagram).collect();
            prop_assert!(pass_on(&sent, together).0 == sent);
        }
    }
}
