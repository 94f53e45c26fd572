use proptest::prelude::*;

use crate::index::testing::{STEP, live};

proptest! {
    #[test]
    fn any_history_gives_the_answers_of_the_model_and_leaves_nothing(
        steps in proptest::collection::vec(any::<[u8; STEP]>(), 0..60),
    ) {
        live(steps.as_flattened());
    }
}
