use super::*;
use crate::payload::Payload;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const LTR: Direction = Direction::LeftToRight;
const RTL: Direction = Direction::RightToLeft;
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn half_close_leaves_the_other_direction_open() {
    let (mut left, mut right) = pair();
    left.write_all(b"ask").await.unwrap();
    left.shutdown().await.unwrap();
    let mut asked = Vec::new();
    right.read_to_end(&mut asked).await.unwrap();
    assert_eq!(asked, b"ask");

    right.write_all(b"answer").await.unwrap();
    right.shutdown().await.unwrap();
    let mut answered = Vec::new();
    left.read_to_end(&mut answered).await.unwrap();
    assert_eq!(answered, b"answer");
    assert_eq!(left.write_all(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn every_byte_passes_however_cut() {
    for builder in [
        Builder::new().capacity(1),
        Builder::new().chunk(1),
        Builder::new().seeded_chunks(9, 700).capacity(1000),
        Builder::new().rate(100_000).latency(Duration::from_millis(20)),
    ] {
        let (mut left, mut right) = builder.build();
        let send = async {
            left.write_all(&Payload::new(1).take(20_000)).await.unwrap();
            left.shutdown().await.unwrap();
        };
        let receive = async {
            let mut expected = Payload::new(1);
            let mut buf = [0; 900];
            loop {
                match right.read(&mut buf).await.unwrap() {
                    0 => break expected.offset(),
                    n => expected.verify(&buf[..n]),
                }
            }
        };
        assert_eq!(tokio::join!(send, receive).1, 20_000);
    }
}

#[tokio::test(start_paused = true)]
async fn seeded_chunks_repeat_and_differ_by_seed() {
    async fn sizes(seed: u64) -> Vec<usize> {
        let (mut left, mut right) = Builder::new().seeded_chunks(seed, 50).build();
        left.write_all(&[0; 1000]).await.unwrap();
        drop(left);
        let mut sizes = Vec::new();
        loop {
            match right.read(&mut [0; 1000]).await.unwrap() {
                0 => return sizes,
                n => sizes.push(n),
            }
        }
    }
    let first = sizes(1).await;
    assert!(first.iter().all(|n| (1..=50).contains(n)));
    assert_eq!(first, sizes(1).await);
    assert_ne!(first, sizes(2).await);
}

#[tokio::test(start_paused = true)]
async fn reset_loses_what_is_in_flight_and_fails_both_ends() {
    let (mut left, mut right) = pair();
    left.write_all(b"lost").await.unwrap();
    left.control().cut(Cut::Reset);
    for end in [&mut left, &mut right] {
        assert_eq!(
            end.read(&mut [0; 8]).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        assert_eq!(end.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(end.flush().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(left.control().stats(LTR).lost, 4);
}

#[tokio::test(start_paused = true)]
async fn abort_resets_a_waiting_reader() {
    let (left, mut right) = pair();
    let mut buf = [0; 8];
    let (read, ()) = tokio::join!(right.read(&mut buf), async { left.abort() });
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn eof_cut_delivers_what_is_in_flight_first() {
    let (mut left, mut right) = pair();
    left.write_all(b"last").await.unwrap();
    left.control().cut(Cut::Eof);
    let mut read = Vec::new();
    right.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"last");
    assert_eq!(left.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(left.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(!left.control().stats(LTR).shut_down);
}

#[tokio::test(start_paused = true)]
async fn dropping_an_end_is_an_orderly_close() {
    let (mut left, mut right) = pair();
    left.write_all(b"bye").await.unwrap();
    drop(left);
    let mut read = Vec::new();
    right.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"bye");
    assert_eq!(right.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_reader_wakes_a_waiting_writer() {
    let (mut left, right) = Builder::new().capacity(2).build();
    let (written, ()) = tokio::join!(left.write_all(b"too much"), async { drop(right) });
    assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn blackhole_swallows_without_an_error() {
    let (mut left, mut right) = pair();
    let control = left.control();
    left.write_all(b"in flight").await.unwrap();
    control.blackhole(LTR);
    left.write_all(&[0; 1_000_000]).await.unwrap();
    timeout(LONG, right.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(control.stats(LTR).lost, 1_000_009);

    right.write_all(b"other way").await.unwrap();
    assert_eq!(left.read(&mut [0; 9]).await.unwrap(), 9);

    left.shutdown().await.unwrap();
    control.resume(LTR);
    timeout(LONG, right.read(&mut [0; 8])).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn blackhole_swallows_an_end_that_is_on_its_way() {
    let (mut left, mut right) = Builder::new().latency(Duration::from_millis(100)).build();
    left.shutdown().await.unwrap();
    left.control().blackhole(LTR);
    left.control().resume(LTR);
    assert_eq!(left.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop(left);
    timeout(LONG, right.read(&mut [0; 8])).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn stall_fills_up_then_resumes_without_loss() {
    let (mut left, mut right) = Builder::new().capacity(10).build();
    let control = left.control();
    control.stall(LTR);
    assert_eq!(left.write(&[7; 30]).await.unwrap(), 10);
    timeout(LONG, left.write(&[7; 20])).await.unwrap_err();
    timeout(LONG, right.read(&mut [0; 8])).await.unwrap_err();

    let resume = async { control.resume(LTR) };
    let write = left.write_all(&[8; 20]);
    let mut read = [0; 30];
    let (written, got, ()) = tokio::join!(write, right.read_exact(&mut read), resume);
    written.unwrap();
    got.unwrap();
    assert_eq!((&read[..10], &read[10..]), (&[7; 10][..], &[8; 20][..]));
}

#[tokio::test(start_paused = true)]
async fn latency_delays_bytes_and_the_end_alike() {
    let (mut left, mut right) = Builder::new().latency(Duration::from_millis(100)).build();
    let start = Instant::now();
    left.write_all(b"x").await.unwrap();
    left.shutdown().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    right.read_exact(&mut [0]).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(100));

    left.control().latency(RTL, Duration::from_millis(300));
    right.shutdown().await.unwrap();
    assert_eq!(left.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(start.elapsed(), Duration::from_millis(400));
}

#[tokio::test(start_paused = true)]
async fn lower_latency_does_not_let_bytes_overtake() {
    let (mut left, mut right) = Builder::new().latency(Duration::from_millis(100)).build();
    left.write_all(b"slow").await.unwrap();
    left.control().latency(LTR, Duration::ZERO);
    left.write_all(b"fast").await.unwrap();
    let mut read = [0; 8];
    right.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"slowfast");
}

#[tokio::test(start_paused = true)]
async fn rate_spreads_bytes_over_time() {
    let (mut left, mut right) = pair();
    left.control().rate(LTR, Some(1_000_000));
    let start = Instant::now();
    let mut half = None;
    let send = async { left.write_all(&[0; 500_000]).await.unwrap() };
    let receive = async {
        let mut seen = 0;
        while seen < 500_000 {
            seen += right.read(&mut [0; 65_536]).await.unwrap();
            if seen >= 250_000 {
                half.get_or_insert(start.elapsed());
            }
        }
    };
    tokio::join!(send, receive);
    let near = |took: Duration, ms: u128| took.as_millis().abs_diff(ms) <= 10;
    assert!(near(half.unwrap(), 250), "half after {half:?}");
    assert!(near(start.elapsed(), 500), "all after {:?}", start.elapsed());
}

#[tokio::test]
async fn counts_and_records_what_crossed() {
    let (mut left, mut right) = Builder::new().record(16).build();
    let control = right.control();
    left.write_all(b"one").await.unwrap();
    let parts = [IoSlice::new(b" two"), IoSlice::new(b" three")];
    assert_eq!(left.write_vectored(&parts).await.unwrap(), 10);
    left.flush().await.unwrap();
    right.read_exact(&mut [0; 5]).await.unwrap();
    let expected = Stats {
        written: 13,
        delivered: 5,
        writes: 2,
        vectored_writes: 1,
        flushes: 1,
        ..Stats::default()
    };
    assert_eq!(control.stats(LTR), expected);
    assert_eq!(control.stats(RTL), Stats::default());
    assert_eq!(control.recording(LTR), b"one two three");
    assert_eq!(control.recording(RTL), b"");
}

#[tokio::test]
#[should_panic(expected = "5 bytes were written, more than the 4")]
async fn half_a_recording_is_refused() {
    let (mut left, _right) = Builder::new().record(4).build();
    left.write_all(b"12345").await.unwrap();
    drop(left.control().recording(LTR));
}
