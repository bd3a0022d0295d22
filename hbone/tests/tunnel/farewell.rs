//! The end of a connection, once it is certain: the peer is told and heard out, and not for long.

use std::time::Duration;

use hbone::{Lost, TunnelError};
use mesh_testkit::frames::{Frame, Reason};
use mesh_testkit::peer::End;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::pair::{background, echo, request, settle};
use crate::raw::{dialled, served};

const LINGER: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn what_a_peer_says_before_it_has_closed_is_read() {
    let mut served = served(&crate::engine::config(), echo).await;
    served.drain.send(()).unwrap();
    assert_eq!(served.peer.closed().await, End::Eof);
    let start = Instant::now();
    // Had the socket been closed, this would have it reset.
    for _ in 0..100 {
        served.peer.send(Frame::window_update(0, 1)).await;
    }
    settle().await;
    assert!(!served.end.is_finished());
    drop(served.peer.into_io());
    assert_eq!(served.end.await.unwrap(), Ok(()));
    assert!(start.elapsed() <= SOON, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_close_is_not_waited_for() {
    let mut served = served(&crate::engine::config(), echo).await;
    served.drain.send(()).unwrap();
    assert_eq!(served.peer.closed().await, End::Eof);
    let start = Instant::now();
    assert_eq!(served.end.await.unwrap(), Ok(()));
    assert!(start.elapsed() <= LINGER + SOON, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_violation_is_told_of_though_its_peer_takes_no_bytes() {
    let mut dialled = dialled(&crate::engine::config()).await;
    let client = dialled.client.clone();
    let (stream, _) = tokio::join!(client.open(request()), dialled.accept());
    let (mut read, mut write) = stream.unwrap().into_split();
    dialled.peer.stop_reading();
    let writing = background(async move { while write.write_all(&[7; 16 * 1024]).await.is_ok() {} });
    settle().await;
    let start = Instant::now();
    dialled.peer.send(Frame::data(0, "of no stream")).await;
    let violation = Lost::Violation(Reason::PROTOCOL_ERROR.0.into());
    assert_eq!(read.read_chunk().await, Err(TunnelError::ConnectionLost(violation)));
    writing.await.unwrap();
    assert!(!client.status().accepting);
    assert!(start.elapsed() <= SOON, "{:?}", start.elapsed());
    assert_eq!(dialled.end.await.unwrap(), Err(violation));
    assert!(start.elapsed() <= LINGER + SOON, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn empty_frames_between_bytes_are_no_flood() {
    let mut served = served(&crate::engine::config(), echo).await;
    let tunnel = served.peer.connect("10.0.0.1:80").await;
    served.peer.expect_headers(tunnel).await;
    for _ in 0..300 {
        served.peer.send_data(tunnel, "").await;
        served.peer.send_data(tunnel, "x").await;
    }
    served.peer.end(tunnel).await;
    assert_eq!(served.peer.read_to_end(tunnel).await.len(), 300);
}
