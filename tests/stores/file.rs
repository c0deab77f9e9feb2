//! The session file of one process: what the next process finds in it, and what happens to a bad file.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ccgateway_bridge::{
    config,
    id::TenantId,
    keyring::EncryptionKey,
    session::{
        Claim, EndOf, FileError, FileState, FileStore, Origin, Session, SessionFile, SessionStore,
    },
};
use tempfile::TempDir;

use crate::support::{CAPACITY, agent, eventually, guid, hex, made, registered, tenant};

const HOUR: Duration = Duration::from_secs(60 * 60);
const CANARY: &str = "canary-guid";

/// A folder with a file of sessions.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("sessions.redb")
    }

    pub(crate) async fn open_for(
        &self,
        keys: &[u8],
        capacity: NonZeroUsize,
    ) -> Result<SessionFile, FileError> {
        open(&self.path(), keys, [(tenant(), capacity)].into()).await
    }

    async fn open(&self) -> SessionFile {
        self.open_for(&[1], CAPACITY).await.expect("it opens")
    }

    /// What a process finds that comes after one which has lost its power now.
    async fn after_a_crash(&self) -> SessionFile {
        let copy = self.0.path().join("copy.redb");
        fs::copy(self.path(), &copy).expect("copied");
        let opened = open(&copy, &[1], [(tenant(), CAPACITY)].into()).await.expect("it opens");
        assert_eq!(self.aside(), Vec::<PathBuf>::new(), "a crash breaks no file");
        opened
    }

    /// Whether [`CANARY`] is anywhere in it, as it is written where there is no key.
    fn shows_guid(&self) -> bool {
        let hex = hex(CANARY);
        let bytes = fs::read(self.path()).expect("readable");
        bytes.windows(hex.len()).any(|some| some == hex.as_bytes())
    }

    /// Files that were set aside.
    fn aside(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path()).expect("readable");
        let paths = entries.map(|entry| entry.expect("readable").path());
        paths.filter(|path| path.to_string_lossy().contains(".broken-")).collect()
    }
}

async fn open(
    path: &Path,
    keys: &[u8],
    tenants: BTreeMap<TenantId, NonZeroUsize>,
) -> Result<SessionFile, FileError> {
    let keys =
        keys.iter().map(|&byte| EncryptionKey::new(ccgateway_test_support::key(byte))).collect();
    let path = path.to_owned();
    let config = config::FileStore { path, encryption_keys: keys, credentials: false };
    SessionFile::open(&config, tenants).await
}

fn store(file: &SessionFile) -> FileStore {
    file.store(&tenant(), CAPACITY)
}

fn knows(store: &FileStore, id: u32) -> Option<String> {
    let session = store.cached(agent(id))?;
    Some(session.guid.header().to_str().expect("text").to_owned())
}

async fn put(store: &FileStore, id: u32, guid: &str) -> Arc<Session> {
    store.put(agent(id), made(guid)).await.expect("stored")
}

#[tokio::test]
async fn the_next_process_knows_every_session_as_it_was() {
    let folder = Folder::new();
    let file = folder.open().await;
    let before = store(&file);
    let first = put(&before, 1001, "first").await;
    before.renew(agent(1001), &first, guid("second")).await.unwrap().expect("renewed");
    before.put(agent(1002), registered("theirs", HOUR)).await.unwrap();
    let gone = put(&before, 1003, "gone").await;
    before.sign_out(agent(1003), &gone, EndOf::Session).await.unwrap();
    file.close().await;

    let file = folder.open().await;
    let after = store(&file);
    assert_eq!(knows(&after, 1001).as_deref(), Some("second"));
    assert_eq!(knows(&after, 1003), None);
    assert_eq!(after.found(), [agent(1001)], "only what the bridge made is for it to keep");
    assert_eq!(after.len(), 2);
    for id in [1001, 1002] {
        let [was, is] = [&before, &after].map(|store| store.cached(agent(id)).expect("a session"));
        assert_eq!((&is.guid, is.origin, is.version), (&was.guid, was.origin, was.version));
        assert_eq!(is.cookies.header(), was.cookies.header());
        assert_eq!(is.expires_at.is_some(), was.expires_at.is_some());
        let drift = was.renewed_at.duration_since(is.renewed_at).expect("cut to milliseconds");
        assert!(drift < Duration::from_millis(2), "{drift:?}");
    }
    let theirs = after.cached(agent(1002)).expect("a session");
    assert_eq!(theirs.origin, Origin::Registered);
    let renewed = after.renew(agent(1002), &theirs, guid("newer")).await.unwrap().expect("renewed");
    assert!(renewed.expires_at >= theirs.expires_at, "its time begins anew");
}

#[tokio::test]
async fn what_was_answered_outlives_a_crash() {
    let folder = Folder::new();
    let file = folder.open().await;
    let running = store(&file);
    let mut sessions = Vec::new();
    for id in 1001..1011 {
        sessions.push(put(&running, id, "signed-in").await);
    }
    let claim = running.claim(0);
    running.put_claimed(agent(1011), made("claimed"), claim).await.unwrap().expect("stored");
    assert_eq!(store(&folder.after_a_crash().await).len(), 11);

    running.sign_out(agent(1001), &sessions[0], EndOf::Session).await.unwrap();
    running.remove(agent(1002), sessions[1].version).await.unwrap();
    let next = folder.after_a_crash().await;
    assert_eq!((knows(&store(&next), 1001), knows(&store(&next), 1002)), (None, None));
    assert_eq!(store(&next).len(), 9);
}

#[tokio::test]
async fn a_renewed_guid_is_on_the_disk_before_long() {
    let folder = Folder::new();
    let file = folder.open().await;
    let running = store(&file);
    let first = put(&running, 1001, "first").await;
    let renewed = running.renew(agent(1001), &first, guid("second")).await.unwrap();
    let renewed = renewed.expect("renewed");
    ccgateway_test_support::until_asked("it to be on the disk", async || {
        let next = folder.after_a_crash().await;
        let found =
            store(&next).cached(agent(1001)).expect("the one before it is there at the least");
        next.close().await;
        let is_renewed = found.version == renewed.version;
        assert_eq!(found.guid, if is_renewed { &renewed } else { &first }.guid);
        is_renewed
    })
    .await;
}

#[tokio::test]
async fn versions_grow_over_a_restart_where_the_clock_went_back() {
    let folder = Folder::new();
    let file = folder.open().await;
    let running = store(&file);
    let ahead = running.claim(0).version + 3_600_000_000;
    let claim = Claim { replaces: 0, version: ahead };
    running.put_claimed(agent(1001), made("a"), claim).await.unwrap().expect("stored");
    running.remove(agent(1001), ahead).await.unwrap();
    file.close().await;
    let file = folder.open().await;
    assert!(put(&store(&file), 1001, "b").await.version > ahead);
}

#[tokio::test]
async fn the_time_of_a_registered_session_passes_between_two_processes() {
    let folder = Folder::new();
    let file = folder.open().await;
    let running = store(&file);
    let short = Duration::from_millis(200);
    running.put(agent(1001), registered("short", short)).await.unwrap();
    running.put(agent(1002), registered("long", HOUR)).await.unwrap();
    file.close().await;
    eventually("the session to end", || running.cached(agent(1001)).is_none()).await;
    let file = folder.open().await;
    let next = store(&file);
    assert_eq!((knows(&next, 1001), next.len()), (None, 1));
    let [was, is] = [&running, &next].map(|store| {
        let session = store.cached(agent(1002)).expect("a session");
        session.expires_at.expect("a time")
    });
    let gained = is.saturating_duration_since(was);
    assert!(gained < Duration::from_millis(5), "a restart makes no session longer: {gained:?}");
}

#[tokio::test]
async fn with_keys_the_file_holds_no_secret_and_without_them_it_opens_all_the_same() {
    for (keys, is_shown) in [(&[1][..], false), (&[], true)] {
        let folder = Folder::new();
        let file = folder.open_for(keys, CAPACITY).await.unwrap();
        let running = store(&file);
        running.put(agent(1001), registered(CANARY, HOUR)).await.unwrap();
        file.close().await;
        let hex = hex(CANARY);
        let bytes = fs::read(folder.path()).unwrap();
        let shows = |text: &str| bytes.windows(text.len()).any(|some| some == text.as_bytes());
        assert_eq!(shows(&hex), is_shown);
        assert!(!shows(CANARY) && shows("acme"));
        let file = folder.open_for(keys, CAPACITY).await.unwrap();
        assert_eq!(knows(&store(&file), 1001).as_deref(), Some(CANARY));
    }
}

#[tokio::test]
async fn keys_are_given_replaced_and_taken_away_without_losing_a_session() {
    let folder = Folder::new();
    for keys in [&[][..], &[1], &[2, 1], &[2]] {
        let file = folder.open_for(keys, CAPACITY).await.unwrap();
        let running = store(&file);
        match knows(&running, 1001) {
            None => drop(put(&running, 1001, CANARY).await),
            Some(guid) => assert_eq!(guid, CANARY, "{keys:?}"),
        }
        assert_eq!(running.len(), 1, "{keys:?}");
        file.close().await;
    }
    assert_eq!(folder.aside(), Vec::<PathBuf>::new());
}

/// What was in the file before it had a key must not stay in parts of it that are free.
#[tokio::test]
async fn a_file_that_gets_a_key_contains_no_plain_guid() {
    let folder = Folder::new();
    let file = folder.open_for(&[], CAPACITY).await.unwrap();
    for id in 1001..1101 {
        put(&store(&file), id, &format!("{CANARY}-{id}")).await;
    }
    let ended = put(&store(&file), 1101, CANARY).await;
    store(&file).remove(agent(1101), ended.version).await.unwrap();
    file.close().await;
    assert!(folder.shows_guid());
    // A process that ended while it wrote a new file has left a part of that.
    fs::copy(folder.path(), folder.0.path().join("sessions.redb.new")).unwrap();

    let file = folder.open().await;
    assert!(!folder.shows_guid());
    assert_eq!(store(&file).len(), 100);
    put(&store(&file), 1102, "more").await;
    file.close().await;
    assert!(!folder.shows_guid());
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1, "nothing else is left");
    assert_eq!(store(&folder.open().await).len(), 101);
}

/// No row of it has to be sealed anew, so only the file itself tells that it had no key.
#[tokio::test]
async fn a_file_whose_sessions_have_all_ended_holds_no_plain_guid_once_it_has_a_key() {
    let folder = Folder::new();
    let file = folder.open_for(&[], CAPACITY).await.unwrap();
    let ended = put(&store(&file), 1001, CANARY).await;
    store(&file).remove(agent(1001), ended.version).await.unwrap();
    file.close().await;
    assert!(folder.shows_guid());

    let file = folder.open().await;
    assert!(!folder.shows_guid());
    assert_eq!(store(&file).len(), 0);
}

/// The first key is what counts: what an old one has sealed goes with it.
#[cfg(unix)]
#[tokio::test]
async fn a_file_is_replaced_when_its_first_key_changes_and_only_then() {
    use std::os::unix::fs::MetadataExt as _;

    let folder = Folder::new();
    let inode = || fs::metadata(folder.path()).unwrap().ino();
    let mut before = None;
    for (keys, is_replaced) in
        [(&[1][..], true), (&[1, 2], false), (&[2, 1], true), (&[2], false), (&[], true)]
    {
        folder.open_for(keys, CAPACITY).await.unwrap().close().await;
        assert_eq!(before != Some(inode()), is_replaced, "{keys:?}");
        // Held open, so that no other file is given its number.
        before = Some(inode());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_a_link_leads_to_is_replaced_where_it_is() {
    let folder = Folder::new();
    let far = folder.0.path().join("far");
    fs::create_dir(&far).unwrap();
    std::os::unix::fs::symlink(far.join("file"), folder.path()).unwrap();
    let file = folder.open_for(&[], CAPACITY).await.unwrap();
    put(&store(&file), 1001, CANARY).await;
    file.close().await;
    let file = folder.open().await;
    assert!(fs::symlink_metadata(folder.path()).unwrap().is_symlink());
    assert_eq!(knows(&store(&file), 1001).as_deref(), Some(CANARY));
    assert!(!folder.shows_guid());
    assert_eq!(fs::read_dir(&far).unwrap().count(), 1);
}

#[tokio::test]
async fn sessions_under_a_key_that_is_missing_are_set_aside_and_can_be_had_again() {
    let folder = Folder::new();
    let file = folder.open().await;
    put(&store(&file), 1001, "first").await;
    file.close().await;
    let file = folder.open_for(&[9], CAPACITY).await.unwrap();
    assert_eq!(store(&file).len(), 0);
    put(&store(&file), 1002, "second").await;
    file.close().await;
    let [aside] = &folder.aside()[..] else { panic!("{:?}", folder.aside()) };
    let old = open(aside, &[1], [(tenant(), CAPACITY)].into()).await.unwrap();
    assert_eq!(knows(&store(&old), 1001).as_deref(), Some("first"));
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_open_the_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new();
    let mode = || fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777;
    folder.open().await.close().await;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o664)).unwrap();
    folder.open().await.close().await;
    assert_eq!(mode(), 0o600);
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_taken() {
    let folder = Folder::new();
    let file = folder.open().await;
    let refused = folder.open_for(&[1], CAPACITY).await.unwrap_err();
    assert!(matches!(refused, FileError::Taken(_)), "{refused:?}");
    assert!(refused.to_string().contains("stop that one first"), "{refused}");
    assert_eq!(folder.aside(), Vec::<PathBuf>::new(), "a good file stays where it is");
    file.close().await;
    folder.open().await;
}

#[tokio::test]
async fn a_path_where_no_file_can_be_made_is_reported() {
    let folder = Folder::new();
    fs::write(folder.0.path().join("file"), "").unwrap();
    for place in ["none/sessions.redb", "file/sessions.redb", "."] {
        let path = folder.0.path().join(place);
        let denied = open(&path, &[1], [(tenant(), CAPACITY)].into()).await.unwrap_err();
        assert!(matches!(denied, FileError::Denied { .. }), "{place}: {denied:?}");
        assert!(denied.to_string().contains("in a folder that exists"), "{denied}");
    }
}

/// A file with twenty sessions of `good-<agent>`.
async fn good() -> (Folder, Vec<u8>) {
    let folder = Folder::new();
    let file = folder.open().await;
    for id in 1001..1021 {
        put(&store(&file), id, &format!("good-{id}")).await;
    }
    file.close().await;
    let bytes = fs::read(folder.path()).unwrap();
    (folder, bytes)
}

#[tokio::test]
async fn an_unusable_file_is_set_aside_and_prevents_no_start() {
    let (_, whole) = good().await;
    let other_crate = b"redb\x1a\x0a\xa9\x0d\x0a".repeat(2000);
    let zeros = vec![0; 100_000];
    let cases: [(&str, &[u8]); 7] = [
        ("text", b"this is no file of sessions"),
        ("zeros", &zeros),
        ("its magic number alone", &whole[..9]),
        ("half of the header", &whole[..200]),
        ("the header alone", &whole[..4096]),
        ("a part of it", &whole[..whole.len() / 4]),
        ("the magic number again and again", &other_crate),
    ];
    for (case, bytes) in cases {
        let folder = Folder::new();
        fs::write(folder.path(), bytes).unwrap();
        let file = folder.open().await;
        assert_eq!(file.state(), FileState::Up, "{case}");
        put(&store(&file), 1001, "new").await;
        file.close().await;
        let [aside] = &folder.aside()[..] else { panic!("{case}: {:?}", folder.aside()) };
        assert_eq!(fs::read(aside).unwrap().len(), bytes.len(), "{case}");
        let file = folder.open().await;
        assert_eq!(knows(&store(&file), 1001).as_deref(), Some("new"), "{case}");
    }
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    let folder = Folder::new();
    fs::write(folder.path(), "").unwrap();
    let file = folder.open().await;
    put(&store(&file), 1001, "new").await;
    assert_eq!(folder.aside(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_file_of_a_newer_version_or_another_program_is_set_aside_unharmed() {
    type Change = fn(&redb::WriteTransaction);
    const ABOUT: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("about");
    const OTHER: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("other");
    let newer: Change = |transaction| {
        let mut about = transaction.open_table(ABOUT).expect("a table");
        about.insert("format", 2).expect("written");
    };
    let strange: Change = |transaction| {
        transaction.delete_table(ABOUT).expect("deleted");
        transaction.open_table(OTHER).expect("a table").insert(1, 1).expect("written");
    };
    for (case, change) in [("newer", newer), ("strange", strange)] {
        let (folder, _) = good().await;
        let database = redb::Database::open(folder.path()).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
        drop(database);
        let file = folder.open().await;
        assert_eq!((store(&file).len(), folder.aside().len()), (0, 1), "{case}");
        let database = redb::Database::open(&folder.aside()[0]).unwrap();
        drop(database);
    }
}

#[tokio::test]
async fn a_flipped_bit_brings_no_wrong_session_and_stops_no_start() {
    let (_, whole) = good().await;
    // What redb has written; behind it the file is empty.
    let used = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let (mut kept, mut aside) = (0, 0);
    // A prime, so that all parts of a page are met.
    for at in (0..320).step_by(5).chain((320..used).step_by(601)) {
        let folder = Folder::new();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(folder.path(), bytes).unwrap();
        let file = folder.open().await;
        let found = store(&file);
        for id in 1001..1021 {
            assert!(knows(&found, id).is_none_or(|guid| guid == format!("good-{id}")), "byte {at}");
        }
        // Some damage shows only when the file is written.
        put(&found, 2001, "new").await;
        eventually("the file to be written", || file.state() == FileState::Up).await;
        match (found.len(), folder.aside().len()) {
            (21, 0) => kept += 1,
            (1 | 21, 1) => aside += 1,
            other => panic!("byte {at}: {other:?}"),
        }
        file.close().await;
        let file = folder.open().await;
        assert_eq!(knows(&store(&file), 2001).as_deref(), Some("new"), "byte {at}");
        file.close().await;
    }
    assert!(kept > 0 && aside > 0, "kept {kept}, aside {aside}");
    println!("of {} flipped bits {kept} did no harm and {aside} set the file aside", kept + aside);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_goes_on_in_memory_until_it_can() {
    let folder = Folder::new();
    let inner = folder.0.path().join("volume");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("sessions.redb");
    let tenants = || BTreeMap::from([(tenant(), CAPACITY)]);
    let file = open(&path, &[1], tenants()).await.unwrap();
    let running = store(&file);
    let first = put(&running, 1001, "first").await;
    put(&running, 1002, "gone").await;
    fs::remove_dir_all(&inner).unwrap();

    put(&running, 1003, "while-away").await;
    running.renew(agent(1001), &first, guid("renewed")).await.unwrap().expect("renewed");
    let version = running.cached(agent(1002)).unwrap().version;
    running.remove(agent(1002), version).await.unwrap();
    let FileState::Down(error) = file.state() else { panic!("it is noticed") };
    assert!(error.contains("No such file"), "{error}");
    assert!(file.failures() > 0);
    assert_eq!(running.len(), 2);

    fs::create_dir(&inner).unwrap();
    eventually("the file to be written", || file.state() == FileState::Up).await;
    file.close().await;
    let file = open(&path, &[1], tenants()).await.unwrap();
    let next = store(&file);
    assert_eq!(knows(&next, 1001).as_deref(), Some("renewed"));
    assert_eq!(knows(&next, 1003).as_deref(), Some("while-away"));
    assert_eq!(next.len(), 2);
}

/// A volume that is not there yet when the process starts, and then is.
#[tokio::test]
async fn a_file_that_cannot_be_read_at_the_start_is_read_later_and_not_written_over() {
    for keys in [[1], [2]] {
        let folder = Folder::new();
        let file = folder.open().await;
        let before = store(&file);
        put(&before, 1001, "old").await;
        put(&before, 1002, "kept").await;
        file.close().await;
        let (path, away) = (folder.path(), folder.0.path().join("away"));
        fs::rename(&path, &away).unwrap();
        // A link to itself cannot be opened, for a reason that may pass.
        std::os::unix::fs::symlink(&path, &path).unwrap();

        let file = folder.open_for(&keys, CAPACITY).await.expect("it starts");
        assert!(matches!(file.state(), FileState::Down(_)), "{:?}", file.state());
        let running = store(&file);
        put(&running, 1001, "new").await;
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        eventually("the file to be read", || file.state() == FileState::Up).await;
        assert_eq!(knows(&running, 1001).as_deref(), Some("new"));
        if keys == [1] {
            assert_eq!(knows(&running, 1002).as_deref(), Some("kept"));
            file.close().await;
            let next = store(&folder.open().await);
            assert_eq!(knows(&next, 1001).as_deref(), Some("new"));
            assert_eq!(knows(&next, 1002).as_deref(), Some("kept"));
        } else {
            assert_eq!(folder.aside().len(), 1, "what no key opens is set aside");
        }
    }
}

#[tokio::test]
async fn a_file_that_somebody_removes_is_made_again() {
    let folder = Folder::new();
    let file = folder.open().await;
    let running = store(&file);
    put(&running, 1001, "first").await;
    fs::remove_file(folder.path()).unwrap();
    put(&running, 1002, "second").await;
    file.close().await;
    let file = folder.open().await;
    assert_eq!(store(&file).len(), 2);
}

#[tokio::test]
async fn outdated_records_are_removed_from_the_file() {
    let folder = Folder::new();
    let [acme, other] = ["acme", "other"].map(|id| TenantId::parse(id).unwrap());
    let tenants = BTreeMap::from([(acme.clone(), CAPACITY), (other.clone(), CAPACITY)]);
    let file = open(&folder.path(), &[1], tenants).await.unwrap();
    for id in 1001..1006 {
        put(&file.store(&acme, CAPACITY), id, "a").await;
        put(&file.store(&other, CAPACITY), id, "b").await;
    }
    file.close().await;
    assert_eq!(rows(&folder.path()), 10);
    // One tenant is gone, and the other one may have less.
    let three = NonZeroUsize::new(3).unwrap();
    let file = folder.open_for(&[1], three).await.unwrap();
    assert_eq!(store(&file).len(), 3);
    file.close().await;
    assert_eq!(rows(&folder.path()), 3);
}

#[tokio::test]
async fn a_tenant_that_comes_later_has_a_part_of_the_file_and_finds_it_when_it_comes_again() {
    let folder = Folder::new();
    let later = TenantId::parse("later").unwrap();
    let file = folder.open().await;
    put(&store(&file), 1001, "a").await;
    let new = file.store(&later, CAPACITY);
    assert_eq!(new.found(), []);
    put(&new, 1002, "b").await;
    assert!(file.sealed_values(&later).is_some());
    drop(new);
    let again = file.store(&later, CAPACITY);
    assert_eq!((again.found(), knows(&again, 1002).is_some()), (vec![agent(1002)], true));
    file.close().await;
    assert_eq!(rows(&folder.path()), 2);
    let tenants = BTreeMap::from([(tenant(), CAPACITY), (later.clone(), CAPACITY)]);
    let file = open(&folder.path(), &[1], tenants).await.unwrap();
    assert_eq!(file.store(&later, CAPACITY).found(), [agent(1002)]);
}

#[tokio::test(start_paused = true)]
async fn sessions_whose_time_has_passed_leave_the_file_while_it_is_open() {
    let folder = Folder::new();
    let file = folder.open().await;
    let running = store(&file);
    for id in 1001..1101 {
        running.put(agent(id), registered("a", Duration::from_secs(1))).await.unwrap();
    }
    put(&running, 2001, "stays").await;
    tokio::time::sleep(Duration::from_secs(130)).await;
    assert_eq!(running.len(), 1);
    let copy = folder.0.path().join("copy.redb");
    fs::copy(folder.path(), &copy).unwrap();
    assert_eq!(rows(&copy), 1);
}

/// Ten times the sessions that fit, and twenty renewals of each that does.
#[tokio::test]
async fn the_file_is_bounded_by_the_sessions_that_there_may_be() {
    const SESSIONS: u32 = 500;
    let folder = Folder::new();
    let capacity = NonZeroUsize::new(SESSIONS as usize).unwrap();
    let file = folder.open_for(&[1], capacity).await.unwrap();
    let running = store(&file);
    let mut most = 0;
    for round in 0..10 {
        let first = 1001 + round * SESSIONS;
        let puts = (first..first + SESSIONS).map(|id| put(&running, id, "first"));
        let mut sessions = futures_util::future::join_all(puts).await;
        for turn in 0..20 {
            for (id, session) in (first..).zip(&mut sessions) {
                let renewed = running.renew(agent(id), session, guid(&format!("guid-{turn}")));
                *session = renewed.await.unwrap().expect("renewed");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            most = most.max(fs::metadata(folder.path()).unwrap().len());
        }
        let ends = (first..).zip(&sessions);
        let ends = ends.map(|(id, session)| running.remove(agent(id), session.version));
        futures_util::future::join_all(ends).await;
    }
    file.close().await;
    println!("the file had {} KiB at the most", most / 1024);
    assert!(most < 8 * 1024 * 1024, "{most}");
    assert_eq!(rows(&folder.path()), 0);
}

/// Rows of the file, as another program counts them.
fn rows(path: &Path) -> u64 {
    use redb::{ReadableDatabase as _, ReadableTableMetadata as _};

    const ROWS: redb::TableDefinition<'_, (&str, &str, u32), &[u8]> =
        redb::TableDefinition::new("rows");
    let database = redb::Database::open(path).expect("a file");
    let transaction = database.begin_read().expect("readable");
    transaction.open_table(ROWS).expect("a table").len().expect("readable")
}
