//! What of a folder is judged when, and what comes of it.

use std::fs;

use super::*;
use crate::ca::files::load_or_make;

fn material() -> Pems {
    Pems::generate("td", SystemTime::now()).expect("made")
}

fn put(folder: &Path, pems: &Pems) {
    for (name, text) in pems.files() {
        fs::write(folder.join(name), text).expect("written");
    }
}

#[test]
fn what_is_still_being_written_is_not_judged_and_nothing_is_judged_twice() {
    let (old, new) = (material(), material());
    let half = Pems {
        ca_cert: new.ca_cert.clone(),
        ..old.clone()
    };
    let gone: Found = Err("ca-key.pem: gone".to_owned());
    let mut looked = Looked::new(Ok(old.clone()));
    let steps = [
        ("as it was", Ok(old.clone()), false),
        ("half of it", Ok(half), false),
        ("all of it", Ok(new.clone()), false),
        ("and it stays", Ok(new.clone()), true),
        ("and stays", Ok(new.clone()), false),
        ("gone for a moment", gone.clone(), false),
        ("back", Ok(new.clone()), false),
        ("and nothing new", Ok(new), false),
        ("gone", gone.clone(), false),
        ("for good", gone.clone(), true),
        ("which was said", gone, false),
        ("the first again", Ok(old.clone()), false),
        ("for good", Ok(old), true),
    ];
    for (step, found, judged) in steps {
        let expected = judged.then(|| found.clone());
        assert!(looked.look(found) == expected, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_authority_signs_without_a_restart_and_what_does_not_hold_together_does_not() {
    let base = tempfile::tempdir().expect("a folder");
    let folder = base.path().join("ca");
    let on_disk = load_or_make(&folder, "td").expect("made");
    let first = on_disk.authority().roots().to_owned();
    let (mut signing, keeping) = on_disk.follow();
    let keeping = tokio::spawn(keeping);

    let new = material();
    let both = Pems {
        root_cert: format!("{first}{}", new.root_cert),
        ..new.clone()
    };
    put(&folder, &both);
    signing.changed().await.expect("kept");
    let taken = signing.borrow_and_update().clone();
    assert_eq!(taken.roots(), both.root_cert);

    let torn = Pems {
        ca_key: material().ca_key,
        ..new.clone()
    };
    let not_in_a_while = 10 * LOOK;
    for broken in [Some(&torn), None] {
        match broken {
            Some(pems) => put(&folder, pems),
            None => fs::remove_file(folder.join("ca-cert.pem")).expect("removed"),
        }
        let changed = tokio::time::timeout(not_in_a_while, signing.changed()).await;
        assert!(changed.is_err(), "{:?}", broken.is_some());
        assert_eq!(signing.borrow().roots(), both.root_cert);
    }
    put(&folder, &new);
    signing.changed().await.expect("kept");
    assert_eq!(signing.borrow_and_update().roots(), new.root_cert);

    drop(signing);
    keeping.await.expect("it ends with those who sign");
}

#[test]
fn steps_that_leave_somebody_behind_are_known() {
    let now = SystemTime::now();
    let (old, new) = (material(), material());
    let both = |signer: &Pems| Pems {
        root_cert: format!("{}{}", old.root_cert, new.root_cert),
        ..signer.clone()
    };
    let none = None;
    let cut = Some("no former root is trusted any more");
    let early = Some("what signs leads to no root that was trusted before");
    for (step, from, to, gap) in [
        ("both roots", old.clone(), both(&old), none),
        ("the new key", both(&old), both(&new), none),
        ("the old root goes", both(&new), new.clone(), none),
        ("two steps at once", old.clone(), both(&new), early),
        ("three steps at once", old.clone(), new.clone(), cut),
    ] {
        let of = |pems: &Pems| Authority::new(pems, now).expect("good");
        assert_eq!(of(&to).gap(&of(&from)), gap, "{step}");
    }
}
