//! Scripts of frames and of users' acts, as the fuzz targets `tunnel_frames` and `tunnel_engines` run them.

use hbone::fuzzing::{tunnel_engines, tunnel_frames};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn no_script_breaks_a_promise(script in proptest::collection::vec(any::<u8>(), 0..600)) {
        tunnel_frames(&script);
    }

    /// Acts that keep to the protocol go further than those that do not.
    #[test]
    fn no_honest_script_breaks_a_promise(
        role in 0_u8..2,
        acts in proptest::collection::vec((0_usize..12, any::<u8>(), 0_u8..252), 0..300),
    ) {
        const HONEST: [u8; 12] = [0, 2, 3, 8, 8, 9, 10, 10, 11, 12, 13, 14];
        let mut script = vec![role];
        for (act, which, arg) in acts {
            script.extend([HONEST[act], which, arg]);
        }
        tunnel_frames(&script);
    }

    /// What a lawful peer does leaves no choice.
    #[test]
    fn no_lawful_script_tells_the_engines_apart(
        role in 0_u8..2,
        acts in proptest::collection::vec((0_u8..15, any::<u8>(), any::<u8>()), 0..120),
    ) {
        let mut script = vec![role];
        for (act, which, arg) in acts {
            script.extend([act, which, arg]);
        }
        tunnel_engines(&script);
    }
}
