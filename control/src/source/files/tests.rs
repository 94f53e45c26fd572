//! The folder from scan to scan.

use super::*;
use tempfile::TempDir;

struct Case {
    dir: TempDir,
    folder: Folder,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::new(dir.path().to_owned());
        Self { dir, folder }
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("inside")).expect("created");
        fs::write(path, text).expect("written");
        self
    }

    /// Events as text, sorted; problems as (file, document, object).
    fn scan(&mut self) -> (Vec<String>, Vec<(String, usize, String)>) {
        let batch = self.folder.scan().expect("readable");
        let mut events: Vec<_> = batch
            .events
            .iter()
            .map(|event| match event {
                Event::Apply(object, origin) => format!("+{} {}", object.key(), origin.file),
                Event::Delete(key) => format!("-{key}"),
            })
            .collect();
        events.sort();
        let problems = batch
            .problems
            .iter()
            .map(|p| {
                (
                    p.origin.file.to_string(),
                    p.origin.document,
                    p.object.clone(),
                )
            })
            .collect();
        (events, problems)
    }
}

fn pod(name: &str, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: {node}, containers: []}}\n---\n"
    )
}

#[test]
fn changes_and_removals_become_events() {
    let mut case = Case::new();
    case.write("a.yaml", &(pod("a", "n") + &pod("b", "n")))
        .write(
            "deep/er/c.json",
            r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#,
        )
        .write("notes.txt", "kind: [")
        .write(".hidden.yaml", "kind: [");
    assert_eq!(
        case.scan(),
        (
            vec![
                "+Node n deep/er/c.json".into(),
                "+Pod default/a a.yaml".into(),
                "+Pod default/b a.yaml".into()
            ],
            vec![]
        )
    );
    assert_eq!(case.scan(), (vec![], vec![]), "nothing changed");
    case.write("a.yaml", &pod("a", "other"));
    assert_eq!(case.scan().0, ["+Pod default/a a.yaml", "-Pod default/b"]);
    fs::remove_file(case.dir.path().join("deep/er/c.json")).expect("removed");
    assert_eq!(case.scan().0, ["-Node n"]);
}

#[test]
fn a_broken_document_keeps_the_files_last_good_objects() {
    let mut case = Case::new();
    case.write("a.yaml", &(pod("a", "n") + &pod("b", "n")));
    case.scan();
    case.write("a.yaml", &format!("{}kind: [\n", pod("a", "new")));
    assert_eq!(
        case.scan(),
        (
            vec!["+Pod default/a a.yaml".into()],
            vec![("a.yaml".into(), 2, String::new())]
        ),
        "b stays, a is new"
    );
    assert_eq!(
        case.scan(),
        (vec![], vec![("a.yaml".into(), 2, String::new())]),
        "it stays reported"
    );
    case.write("a.yaml", &pod("a", "new"));
    assert_eq!(case.scan(), (vec!["-Pod default/b".into()], vec![]));
}

#[test]
fn a_policy_that_was_never_read_denies_and_one_that_was_stays() {
    let policy = |spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let action = |case: &Case| {
        let (object, _) = case.folder.live.values().next().expect("a policy");
        match object {
            Object::AuthorizationPolicy(it) => it.spec.action.clone().expect("an action"),
            other => panic!("{other:?}"),
        }
    };
    let mut case = Case::new();
    case.write("p.yaml", &policy("{action: ALLOW, rules: all}"));
    let (events, problems) = case.scan();
    assert_eq!(events, ["+AuthorizationPolicy shop/p p.yaml"]);
    assert_eq!(problems.len(), 1);
    assert_eq!(action(&case), "DENY");
    case.write("p.yaml", &policy("{action: ALLOW}"));
    assert!(case.scan().1.is_empty());
    assert_eq!(action(&case), "ALLOW");
    case.write("p.yaml", &policy("{action: ALLOW, rule: []}"));
    assert_eq!(case.scan().1.len(), 1);
    assert_eq!(action(&case), "ALLOW", "the last one that could be read");
    case.write("p.yaml", "");
    assert_eq!(case.scan().0, ["-AuthorizationPolicy shop/p"]);
}

#[test]
fn an_object_in_two_files_counts_once() {
    let mut case = Case::new();
    case.write("b.yaml", &pod("a", "n"));
    case.scan();
    case.write("a.yaml", &pod("a", "n"));
    assert_eq!(
        case.scan(),
        (
            vec!["+Pod default/a a.yaml".into()],
            vec![("b.yaml".into(), 1, "Pod default/a".into())]
        )
    );
    fs::remove_file(case.dir.path().join("a.yaml")).expect("removed");
    assert_eq!(case.scan(), (vec!["+Pod default/a b.yaml".into()], vec![]));
}

#[test]
fn a_missing_folder_is_an_error_and_removes_nothing() {
    let mut case = Case::new();
    case.write("a.yaml", &pod("a", "n"));
    case.scan();
    fs::remove_dir_all(case.dir.path()).expect("removed");
    assert!(case.folder.scan().is_err());
    fs::create_dir(case.dir.path()).expect("created");
    assert_eq!(case.scan().0, ["-Pod default/a"]);
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let mut case = Case::new();
    case.write("a.yaml", &pod("a", "n1"));
    let start = SystemTime::now();
    let stamp = |case: &Case| case.folder.files["a.yaml"].stamp;
    // Just written: its next change may look the same to the file system.
    for (seconds, is_known) in [(0, false), (1, false), (60, true)] {
        let now = start + Duration::from_secs(seconds);
        case.folder.scan_at(now).expect("readable");
        assert_eq!(stamp(&case).is_some(), is_known, "{seconds}");
    }
    // It is only looked at: what was read of it stays, also where it is not what is there.
    let file = case.folder.files.get_mut("a.yaml").expect("a file");
    file.content = 1;
    assert!(case.scan().0.is_empty());
    assert_eq!(case.folder.files["a.yaml"].content, 1, "it was read");

    case.write("a.yaml", &pod("a", "other"));
    assert_eq!(case.scan().0, ["+Pod default/a a.yaml"]);
    assert_ne!(case.folder.files["a.yaml"].content, 1);
}

#[test]
fn a_stamp_of_just_now_is_none() {
    let changed = (1_000, 999_999_999);
    let stamp = Stamp {
        device: 1,
        inode: 2,
        size: 3,
        changed,
    };
    for (now, settled) in [(999, false), (1_002, false), (1_003, true), (5_000, true)] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        assert_eq!(stamp.settled(now).is_some(), settled, "{now:?}");
    }
}
