//! The store against real databases: MariaDB and PostgreSQL are started here, each once, with the tables of OpenSIPS and
//! Kamailio. `cargo test --test databases`; it needs Debian's packages mariadb-server, postgresql and openssl.

#[path = "databases/persist.rs"]
mod persist;
#[path = "databases/server.rs"]
mod server;
#[path = "databases/tables.rs"]
mod tables;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tandem::edge::store::{AskedProbe, Database, Load, ProbeWish, RowContext, Schema, Store, StoreError, Strictness};
use tandem::engine::dispatch::{Row, RowState, SetId};
use tandem::engine::flow::{Listener, ListenerId, Role, Transport};

use self::server::{Kind, PASSWORD, Server, store};
use self::tables::*;

/// So long that no machine is too slow for it.
const LONG: Duration = Duration::from_secs(60);

fn listeners() -> Vec<Listener> {
    let bind: SocketAddr = "10.0.0.1:8060".parse().expect("an address");
    vec![Listener {
        id: ListenerId(0),
        transport: Transport::Udp,
        bind,
        advertise: bind.into(),
        role: Role::Node,
        sources: Default::default(),
    }]
}

async fn read(store: &Store) -> Result<Load, StoreError> {
    let listeners = listeners();
    store.load(&RowContext { listeners: &listeners, strictness: Strictness::Strict, set_offset: 0 }).await
}

async fn load(store: &Store) -> Load {
    read(store).await.expect("good rows")
}

async fn fault(store: &Store) -> String {
    let told = read(store).await.expect_err("a fault").to_string();
    assert!(!told.contains(PASSWORD) && !told.contains(server::IN_URL), "{told}");
    told
}

fn rows(load: &Load) -> Vec<&Row> {
    load.sets.0.iter().flat_map(|set| &set.rows).collect()
}

fn open(database: Database) -> Store {
    Store::new(&Database { timeout: LONG, ..database }, Path::new("/")).expect("good options")
}

/// A database with that SQL run in it, and the same by a user who may only read.
async fn prepared(kind: Kind, name: &str, sql: &str) -> (Store, Store) {
    let writer = kind.shared().database(name, "").await;
    writer.execute(sql).await.expect("good SQL");
    (writer, reader(kind, name, Schema::OpenSips))
}

fn reader(kind: Kind, name: &str, schema: Schema) -> Store {
    let url = kind.shared().url(&format!("reader_{name}"), name);
    open(Database { schema, table: tandem::edge::store::TableOptions::of(schema), ..Database::of(url) })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_opensips_s_table_takes_the_article_s_rows() {
    for kind in Kind::BOTH {
        let versions = [("v7", opensips_7(kind)), ("v8", opensips_8(kind)), ("v9", opensips_9(kind))];
        for (name, sql) in versions.into_iter().chain([("v9n", opensips_9_null(kind))]) {
            let sql = format!("{sql} {};", article(kind));
            let (_, reader) = prepared(kind, &format!("article_{name}"), &sql).await;
            let load = load(&reader).await;
            let rows = rows(&load);
            let uris: Vec<_> = rows.iter().map(|row| row.uri.as_str()).collect();
            assert_eq!(uris, ["sip:10.129.39.88:7010", "sip:10.129.39.88:7011"], "{kind:?} {name}");
            let row = rows[1];
            assert_eq!((row.row, row.weight, row.priority, row.state), (2, 1, 100, RowState::Active));
            assert_eq!((row.attrs.as_str(), row.description.as_str()), ("pstn=100", "TTS_MRCP_CLIENT_FS_7011"));
            assert_eq!(load.sets.0[0].id, SetId(19));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn null_attrs_and_probe_mode_of_newer_tables_are_read() {
    for kind in Kind::BOTH {
        let insert = "INSERT INTO dispatcher (setid, destination, probe_mode, weight) VALUES
            (1, 'sip:10.0.0.1', 0, ''), (1, 'sip:10.0.0.2', 1, '5');";
        let (_, reader) = prepared(kind, "nulls", &format!("{} {insert}", opensips_9_null(kind))).await;
        let load = load(&reader).await;
        let found: Vec<_> =
            rows(&load).iter().map(|row| (row.weight, row.attrs.len(), row.description.len())).collect();
        assert_eq!(found, [(1, 0, 0), (5, 0, 0)]);
        let asked = AskedProbe { set: SetId(1), uri: "sip:10.0.0.2".to_owned(), wish: ProbeWish::Always };
        assert_eq!(load.probes, [asked]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_balancer_s_resources_stand_before_attrs() {
    for kind in Kind::BOTH {
        let insert = "INSERT INTO load_balancer (group_id, dst_uri, resources, probe_mode, attrs) VALUES
            (7, 'sip:10.0.0.1:7010', 'pstn=100;asr=20', 0, NULL),
            (7, 'sip:10.0.0.2:7010', 'pstn=50;', 2, 'zone=a');";
        prepared(kind, "balancer", &format!("{} {insert}", load_balancer_3(kind))).await;
        let load = load(&reader(kind, "balancer", Schema::LoadBalancer)).await;
        let attrs: Vec<_> = rows(&load).iter().map(|row| row.attrs.as_str()).collect();
        assert_eq!((load.sets.0[0].id, attrs), (SetId(7), vec!["pstn=100;asr=20", "pstn=50;zone=a"]));
        let wishes: Vec<_> = load.probes.iter().map(|probe| probe.wish).collect();
        assert_eq!(wishes, [ProbeWish::Never, ProbeWish::Always]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kamailio_s_flags_weights_and_sockets_are_understood_in_table_and_file() {
    let values = [
        (1, "sip:10.0.0.2:8060", 0, 10, "duid=srv1;maxload=100;rweight=50;socket=udp:10.0.0.1:8060"),
        (1, "sip:10.0.0.3:8060", 8, 0, "weight=20"),
        (1, "sip:10.0.0.4:8060", 4, 0, ""),
        (2, "sip:10.0.0.5:8060", 1, 0, ""),
    ];
    let text: String = values
        .iter()
        .map(|(set, uri, flags, priority, attrs)| format!("{set} {uri} {flags} {priority} {attrs}\n"))
        .collect();
    let file = std::env::temp_dir().join(format!("tandem-databases-{}.list", std::process::id()));
    std::fs::write(&file, format!("# setid destination flags priority attrs\n{text}")).expect("a file");
    let of_file = load(&open(Database::of(format!("list:{}", file.display())))).await;
    std::fs::remove_file(&file).expect("removed");
    for kind in Kind::BOTH {
        let rows_of = |(set, uri, flags, priority, attrs): &(i32, &str, i32, i32, &str)| {
            format!("({set}, '{uri}', {flags}, {priority}, '{attrs}')")
        };
        let insert: Vec<_> = values.iter().map(rows_of).collect();
        let insert = format!(
            "INSERT INTO dispatcher (setid, destination, flags, priority, attrs) VALUES {};",
            insert.join(", ")
        );
        prepared(kind, "kamailio", &format!("{} {insert}", kamailio_4(kind))).await;
        let load = load(&reader(kind, "kamailio", Schema::Kamailio)).await;
        let found: Vec<_> = rows(&load).iter().map(|row| (row.weight, row.state, row.socket)).collect();
        assert_eq!(
            found,
            [
                (50, RowState::Active, Some(ListenerId(0))),
                (20, RowState::Active, None),
                (1, RowState::Inactive, None),
                (1, RowState::Probing, None),
            ]
        );
        assert_eq!(load.probes.len(), 1);
        assert_eq!(load.digest, of_file.digest, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_s_table_is_told_with_its_name() {
    for kind in Kind::BOTH {
        prepared(kind, "whose", &kamailio_4(kind)).await;
        let told = fault(&reader(kind, "whose", Schema::OpenSips)).await;
        assert!(told.contains("Kamailio's dispatcher: set schema = \"kamailio\""), "{told}");
        prepared(kind, "whose_too", &opensips_9(kind)).await;
        let told = fault(&reader(kind, "whose_too", Schema::Kamailio)).await;
        assert!(told.contains("OpenSIPS's dispatcher: set schema = \"opensips\""), "{told}");
        let told = fault(&reader(kind, "whose_too", Schema::LoadBalancer)).await;
        assert!(told.contains("no table load_balancer"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_have_one_digest_everywhere_and_every_change_another() {
    let folder = std::env::temp_dir().join(format!("tandem-databases-{}-digest", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let sqlite = Store::new(&Database::of("sqlite:a.db"), &folder).expect("a URL");
    sqlite.make().await.expect("made");
    sqlite.execute(ARTICLE).await.expect("the article's rows");
    let expected = load(&sqlite).await.digest;
    std::fs::remove_dir_all(&folder).expect("removed");
    for kind in Kind::BOTH {
        let sql = format!("{} {};", opensips_8(kind), article(kind));
        let (writer, reader) = prepared(kind, "digests", &sql).await;
        assert_eq!(load(&reader).await.digest, expected, "{kind:?}");
        writer.execute("UPDATE dispatcher SET state = 2").await.expect("an update");
        assert_eq!(load(&reader).await.digest, expected, "the state is no change");
        writer.execute("UPDATE dispatcher SET weight = '2' WHERE id = 1").await.expect("an update");
        let changed = load(&reader).await.digest;
        assert_ne!(changed, expected);
        writer.execute("DELETE FROM dispatcher").await.expect("deleted");
        let empty = load(&reader).await;
        assert_eq!((empty.rows, empty.sets.0.len()), (0, 0));
        assert!(empty.digest != expected && empty.digest != changed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_as_utf_8_whatever_the_column_is_written_in() {
    let mut digests = Vec::new();
    let encodings = [
        (Kind::MariaDb, "text_latin1", "CHARACTER SET latin1"),
        (Kind::MariaDb, "text_utf8", "CHARACTER SET utf8mb4"),
        (Kind::Postgres, "text_latin1", "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"),
        (Kind::Postgres, "text_utf8", "ENCODING 'UTF8'"),
    ];
    for (kind, name, how) in encodings {
        let writer = kind.shared().database(name, how).await;
        let insert = "INSERT INTO dispatcher (setid, destination, description) VALUES (1, 'sip:10.0.0.1', 'Grüße');";
        writer.execute(&format!("{} {insert}", opensips_8(kind))).await.expect("good SQL");
        let load = load(&reader(kind, name, Schema::OpenSips)).await;
        assert_eq!(rows(&load)[0].description, "Grüße", "{kind:?} {name}");
        digests.push(load.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_only_read_is_enough_and_nothing_else_is_tried() {
    for kind in Kind::BOTH {
        let sql = format!("{} {};", opensips_8(kind), article(kind));
        let (_, reader) = prepared(kind, "only_read", &sql).await;
        for _ in 0..3 {
            assert_eq!(load(&reader).await.rows, 2);
        }
        let log = kind.shared().log();
        let statements = statements_of(kind, &log, "reader_only_read");
        assert!(statements.len() > 8, "{statements:?}");
        for statement in &statements {
            let first = statement.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            let reads =
                ["SELECT", "SET", "START", "BEGIN", "COMMIT", "ROLLBACK", ""].contains(&first.trim_end_matches(';'));
            assert!(reads, "{kind:?}: {statement}");
        }
        // One connection serves all of them.
        let begun = statements.iter().filter(|one| one.starts_with("START") || one.starts_with("BEGIN")).count();
        assert_eq!(begun, 3, "{statements:?}");
        let states = [(19, "sip:10.129.39.88:7010".to_owned(), RowState::Inactive)];
        let told = reader.write_states(&states).await.expect_err("it may not").to_string();
        assert!(told.contains("GRANT"), "{told}");
        assert_eq!(rows(&load(&reader).await)[0].state, RowState::Active);
    }
}

/// What that user has asked, by the server's own log.
fn statements_of(kind: Kind, log: &str, user: &str) -> Vec<String> {
    match kind {
        Kind::Postgres => {
            let marks = [format!("{user} LOG:  statement: "), format!("{user} LOG:  execute <unnamed>: ")];
            let lines = log.lines().filter_map(|line| marks.iter().find_map(|mark| line.strip_prefix(mark.as_str())));
            lines.map(str::to_owned).collect()
        }
        Kind::MariaDb => {
            // `time number command text`, the time only when it is another than above.
            let fields = |line: &str| {
                let (left, text) = line.split_once(" Query\t").or_else(|| line.split_once(" Connect\t"))?;
                let number = left.split_whitespace().last()?.to_owned();
                Some((number, line.contains(" Connect\t"), text.to_owned()))
            };
            let all: Vec<_> = log.lines().filter_map(fields).collect();
            let own = |number: &String| {
                all.iter().any(|(one, connects, text)| one == number && *connects && text.starts_with(user))
            };
            all.iter()
                .filter(|(number, connects, _)| !connects && own(number))
                .map(|(_, _, text)| text.clone())
                .collect()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_and_the_server_must_be_who_it_is() {
    for kind in Kind::BOTH {
        let server = kind.shared();
        let sql = format!("{} {};", opensips_8(kind), article(kind));
        let (writer, _) = prepared(kind, "tls", &sql).await;
        let admin = store(&server.url("admin", "tls"));
        match kind {
            Kind::MariaDb => {
                let user = format!(
                    "CREATE USER secure IDENTIFIED BY '{PASSWORD}' REQUIRE SSL; GRANT SELECT ON tls.* TO secure"
                );
                admin.execute(&user).await.expect("a user");
            }
            Kind::Postgres => {
                admin.execute(&format!("CREATE USER secure PASSWORD '{PASSWORD}'")).await.expect("a user");
                writer.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO secure").await.expect("a grant");
            }
        }
        let url = server.url("secure", "tls");
        let (mode, authority) = match kind {
            Kind::MariaDb => ("ssl-mode", "ssl-ca"),
            Kind::Postgres => ("sslmode", "sslrootcert"),
        };
        let [off, some, chain, whole] = match kind {
            Kind::MariaDb => ["DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"],
            Kind::Postgres => ["disable", "require", "verify-ca", "verify-full"],
        };
        // Relative: the files stand where the configuration does.
        let with = |parameters: String| {
            let database = Database { timeout: LONG, ..Database::of(format!("{url}?{parameters}")) };
            Store::new(&database, server.folder()).expect("a good URL")
        };
        for good in [
            format!("{mode}={some}"),
            format!("{mode}={chain}&{authority}=ca.pem"),
            format!("{mode}={whole}&{authority}=ca.pem"),
        ] {
            assert_eq!(load(&with(good)).await.rows, 2);
        }
        let by_name = url.replace("127.0.0.1", "localhost");
        let by_name =
            Database { timeout: LONG, ..Database::of(format!("{by_name}?{mode}={whole}&{authority}=ca.pem")) };
        assert_eq!(load(&Store::new(&by_name, server.folder()).expect("a good URL")).await.rows, 2);
        for bad in [format!("{mode}={whole}&{authority}=other.pem"), format!("{mode}={chain}")] {
            let told = fault(&with(bad)).await;
            assert!(told.contains("certificate") && told.contains("can't open it"), "{told}");
        }
        fault(&with(format!("{mode}={off}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_judged_row_by_row() {
    for kind in Kind::BOTH {
        let insert = "INSERT INTO dispatcher (setid, destination, state, weight) VALUES
            (19, 'sip:10.0.0.1', 0, '1'), (-1, 'tel:123', 7, 'x'), (19, 'sip:10.0.0.1', 0, '1'),
            (19, 'sip:10.0.0.2', 0, 'fs://:ClueCon@10.0.0.9:8021');";
        let (writer, reader) = prepared(kind, "nonsense", &format!("{} {insert}", opensips_8(kind))).await;
        let told = fault(&reader).await;
        assert!(
            told.starts_with("3 rows can't be used, nothing is loaded:\n  dispatcher row 2: setid is \"-1\""),
            "{told}"
        );
        assert!(told.lines().count() == 7 && !told.contains("ClueCon"), "{told}");
        // A table that goes, and comes back as another; the connection is the same.
        writer.execute("DROP TABLE dispatcher").await.expect("dropped");
        assert!(fault(&reader).await.contains("no table dispatcher"));
        let table = opensips_8(kind);
        let table = table.split_once("CREATE TABLE dispatcher").expect("two tables").1;
        writer.execute(&format!("CREATE TABLE dispatcher{table} {};", article(kind))).await.expect("it is back");
        assert_eq!(load(&reader).await.rows, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_columns_may_have_other_names() {
    for kind in Kind::BOTH {
        let sql = format!("{} {};", opensips_8(kind), article(kind));
        let rename = "ALTER TABLE dispatcher RENAME COLUMN destination TO uri;
            ALTER TABLE dispatcher RENAME COLUMN id TO number; ALTER TABLE dispatcher RENAME TO servers;
            ALTER TABLE version RENAME TO versions; UPDATE versions SET table_name = 'servers';";
        prepared(kind, "names", &format!("{sql} {rename}")).await;
        let mut database = Database::of(kind.shared().url("writer_names", "names"));
        database.table.table = "servers".to_owned();
        let told = fault(&open(database.clone())).await;
        assert!(told.contains("no table version"), "{told}");
        database.table.version_table = "versions".to_owned();
        let told = fault(&open(database.clone())).await;
        assert!(told.contains("lacks the columns id, destination"), "{told}");
        database.table.columns = [("id", "number"), ("destination", "uri")].map(|(a, b)| (a.into(), b.into())).into();
        let store = open(database);
        let rows = load(&store).await;
        assert_eq!(rows.rows, 2);
        store.write_states(&[(19, "sip:10.129.39.88:7011".to_owned(), RowState::Probing)]).await.expect("written");
        let after = load(&store).await;
        assert_eq!(self::rows(&after)[1].state, RowState::Probing);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_written_all_or_none() {
    for kind in Kind::BOTH {
        let check =
            "ALTER TABLE dispatcher ADD CONSTRAINT no CHECK (state < 2 OR destination <> 'sip:10.129.39.88:7011');";
        let sql = format!("{} {}; {check}", opensips_8(kind), article(kind));
        let (writer, reader) = prepared(kind, "states", &sql).await;
        let row = |port: u16, state| (19, format!("sip:10.129.39.88:{port}"), state);
        let states = async || -> Vec<RowState> { rows(&load(&reader).await).iter().map(|row| row.state).collect() };
        let before = load(&reader).await.digest;
        writer.write_states(&[row(7010, RowState::Probing), row(7011, RowState::Inactive)]).await.expect("written");
        assert_eq!(states().await, [RowState::Probing, RowState::Inactive]);
        assert_eq!(load(&reader).await.digest, before);
        // The second is refused, so the first is not written either; nobody's row is no fault.
        writer.write_states(&[row(7010, RowState::Active), row(7011, RowState::Probing)]).await.expect_err("refused");
        assert_eq!(states().await, [RowState::Probing, RowState::Inactive]);
        writer.write_states(&[row(7010, RowState::Active), row(9999, RowState::Active)]).await.expect("written");
        assert_eq!(states().await, [RowState::Active, RowState::Inactive]);
        let kamailio =
            Database { schema: Schema::Kamailio, ..Database::of(kind.shared().url("writer_states", "states")) };
        let refused = open(kamailio).write_states(&[row(7010, RowState::Active)]).await;
        assert!(matches!(refused, Err(StoreError::ReadOnly { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_login_is_told_without_the_password_and_a_file_may_hold_it() {
    let file = std::env::temp_dir().join(format!("tandem-databases-{}.password", std::process::id()));
    for kind in Kind::BOTH {
        let sql = format!("{} {};", opensips_8(kind), article(kind));
        prepared(kind, "login", &sql).await;
        let url = kind.shared().url("reader_login", "login");
        let wrong = url.replace(server::IN_URL, "wrong-secret");
        let told = fault(&open(Database::of(wrong))).await;
        assert!(told.contains("correct the user or the password") && !told.contains("wrong-secret"), "{told}");
        let bare = url.replace(&format!(":{}", server::IN_URL), "");
        let by_file = Database { password_file: Some(file.clone()), ..Database::of(bare) };
        let _ = std::fs::remove_file(&file);
        let told = fault(&open(by_file.clone())).await;
        assert!(told.contains("password_file") && told.contains("can't read it"), "{told}");
        std::fs::write(&file, format!("{PASSWORD}\n")).expect("a file");
        let store = open(by_file);
        assert_eq!(load(&store).await.rows, 2);
        let shown = format!("{store} {store:?}");
        assert!(shown.contains("reader_login@127.0.0.1") && !shown.contains("geh"), "{shown}");
        let elsewhere = url.replace("/login", "/nowhere");
        assert!(fault(&open(Database::of(elsewhere))).await.contains("nowhere"));
    }
    std::fs::remove_file(&file).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_refuses_is_an_error_in_time() {
    let hung = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = hung.local_addr().expect("an address").port();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address").port();
    for scheme in ["mysql", "mariadb", "postgres", "postgresql"] {
        let of = |port, timeout| {
            let url = format!("{scheme}://u:{}@127.0.0.1:{port}/d", server::IN_URL);
            Store::new(&Database { timeout, ..Database::of(url) }, Path::new("/")).expect("a good URL")
        };
        let told = fault(&of(port, Duration::from_millis(300))).await;
        assert!(told.contains("no answer within 300ms"), "{told}");
        // It is told at once, not when the time is up.
        let told = fault(&of(closed, LONG)).await;
        assert!(told.contains("refused") && told.contains("host and port"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_heard_also_after_the_server_was_gone() {
    let server = Server::new(Kind::Postgres, "restarts");
    let writer = server.database("restarts", "").await;
    writer.execute(&format!("{} {};", opensips_8(Kind::Postgres), article(Kind::Postgres))).await.expect("good SQL");
    let database =
        Database { listen: Some("tandem".to_owned()), ..Database::of(server.url("reader_restarts", "restarts")) };
    let reader = open(database);
    // The first word is that it listens now: what was changed before has to be looked for.
    heard(&reader).await;
    assert_eq!(load(&reader).await.rows, 2);
    writer.execute("NOTIFY other; NOTIFY tandem; NOTIFY tandem").await.expect("notified");
    heard(&reader).await;
    // A call that was given up loses nothing.
    let quick = tokio::time::timeout(Duration::from_millis(1), reader.changed()).await;
    let still =
        if quick.is_ok() { tokio::time::timeout(Duration::from_millis(1), reader.changed()).await } else { quick };
    assert!(still.is_err(), "nobody has notified");
    writer.execute("NOTIFY tandem").await.expect("notified");
    heard(&reader).await;
    server.kill();
    let told = fault(&reader).await;
    assert!(told.contains("can't open it"), "{told}");
    let listens = {
        let reader = reader.clone();
        tokio::spawn(async move { heard(&reader).await })
    };
    server.start();
    listens.await.expect("it listens again");
    assert_eq!(load(&reader).await.rows, 2);
    writer.execute("NOTIFY tandem").await.expect("notified");
    heard(&reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_is_read_again_when_it_is_back() {
    let server = Server::new(Kind::MariaDb, "restarts");
    let writer = server.database("restarts", "").await;
    writer.execute(&format!("{} {};", opensips_8(Kind::MariaDb), article(Kind::MariaDb))).await.expect("good SQL");
    let reader = open(Database::of(server.url("reader_restarts", "restarts")));
    let before = load(&reader).await;
    server.kill();
    let told = fault(&reader).await;
    assert!(told.contains("can't open it") && told.contains("refused"), "{told}");
    server.start();
    assert_eq!(load(&reader).await, before);
    // One that stands still keeps the connection open, and is an error in time all the same.
    let database =
        Database { timeout: Duration::from_secs(3), ..Database::of(server.url("reader_restarts", "restarts")) };
    let hasty = Store::new(&database, Path::new("/")).expect("a good URL");
    until_good(&hasty).await;
    server.signal("STOP");
    let told = fault(&hasty).await;
    server.signal("CONT");
    assert!(told.contains("no answer within 3s"), "{told}");
    until_good(&hasty).await;
}

/// Loads until it is done in its time, which a machine with much to do may not be at once.
async fn until_good(store: &Store) {
    for _ in 0..20 {
        match read(store).await {
            Ok(load) => return assert_eq!(load.rows, 2),
            Err(StoreError::Timeout { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it is never done in time");
}

async fn heard(store: &Store) {
    tokio::time::timeout(LONG, store.changed()).await.expect("it is told");
}
