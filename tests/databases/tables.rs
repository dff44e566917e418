//! The tables of OpenSIPS and Kamailio by their own column definitions, as their scripts make them.

use super::server::Kind;

/// The article's rows.
pub(crate) const ARTICLE: &str = "INSERT INTO `dispatcher`
    (`setid`, `destination`, `state`, `weight`, `priority`, `attrs`, `description`) VALUES
    (19, 'sip:10.129.39.88:7010', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7010'),
    (19, 'sip:10.129.39.88:7011', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7011')";

/// The article's rows in that database's own quotes.
pub(crate) fn article(kind: Kind) -> String {
    match kind {
        Kind::MariaDb => ARTICLE.to_owned(),
        Kind::Postgres => ARTICLE.replace('`', ""),
    }
}

pub(crate) fn version(kind: Kind) -> &'static str {
    match kind {
        Kind::MariaDb => {
            "CREATE TABLE version (
                table_name CHAR(32) NOT NULL,
                table_version INT UNSIGNED DEFAULT 0 NOT NULL,
                CONSTRAINT t_name_idx UNIQUE (table_name)
            ) ENGINE=InnoDB;"
        }
        Kind::Postgres => {
            "CREATE TABLE version (
                table_name VARCHAR(32) NOT NULL,
                table_version INTEGER DEFAULT 0 NOT NULL,
                CONSTRAINT version_t_name_idx UNIQUE (table_name)
            );"
        }
    }
}

/// The kinds of column that the scripts use.
fn typed(kind: Kind, columns: &str) -> String {
    let [id, int, unsigned, text] = match kind {
        Kind::MariaDb => ["INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL", "INT", "INT(11) UNSIGNED", "CHAR"],
        Kind::Postgres => ["SERIAL PRIMARY KEY NOT NULL", "INTEGER", "INTEGER", "VARCHAR"],
    };
    columns.replace("<id>", id).replace("<int>", int).replace("<unsigned>", unsigned).replace("<text>", text)
}

fn table(kind: Kind, name: &str, version_number: u32, columns: &str) -> String {
    format!(
        "{} INSERT INTO version (table_name, table_version) VALUES ('{name}', '{version_number}');
         CREATE TABLE {name} ({});",
        version(kind),
        typed(kind, columns)
    )
}

/// OpenSIPS 2.4: weight is a number.
pub(crate) fn opensips_7(kind: Kind) -> String {
    table(kind, "dispatcher", 7, &OPENSIPS.replace("<weight>", "<int>").replace("<probe>", ""))
}

/// OpenSIPS 3.1 to 3.3.
pub(crate) fn opensips_8(kind: Kind) -> String {
    table(kind, "dispatcher", 8, &OPENSIPS.replace("<weight>", "<text>(64)").replace("<probe>", ""))
}

/// OpenSIPS 3.4.
pub(crate) fn opensips_9(kind: Kind) -> String {
    let probe = "probe_mode <unsigned> DEFAULT 0 NOT NULL,";
    table(kind, "dispatcher", 9, &OPENSIPS.replace("<weight>", "<text>(64)").replace("<probe>", probe))
}

/// OpenSIPS 3.5 and later, whose attrs and description may be NULL.
pub(crate) fn opensips_9_null(kind: Kind) -> String {
    opensips_9(kind)
        .replace("(128) DEFAULT '' NOT NULL,\n    description", "(128) DEFAULT NULL,\n    description")
        .replace("(64) DEFAULT '' NOT NULL\n", "(64) DEFAULT NULL\n")
}

const OPENSIPS: &str = "
    id <id>,
    setid <int> DEFAULT 0 NOT NULL,
    destination <text>(192) DEFAULT '' NOT NULL,
    socket <text>(128) DEFAULT NULL,
    state <int> DEFAULT 0 NOT NULL,
    <probe>
    weight <weight> DEFAULT '1' NOT NULL,
    priority <int> DEFAULT 0 NOT NULL,
    attrs <text>(128) DEFAULT '' NOT NULL,
    description <text>(64) DEFAULT '' NOT NULL
";

pub(crate) fn load_balancer_3(kind: Kind) -> String {
    table(
        kind,
        "load_balancer",
        3,
        "id <id>,
         group_id <unsigned> DEFAULT 0 NOT NULL,
         dst_uri <text>(128) NOT NULL,
         resources <text>(255) NOT NULL,
         probe_mode <unsigned> DEFAULT 0 NOT NULL,
         attrs <text>(255) DEFAULT NULL,
         description <text>(128) DEFAULT NULL",
    )
}

pub(crate) fn kamailio_4(kind: Kind) -> String {
    table(
        kind,
        "dispatcher",
        4,
        "id <id>,
         setid <int> DEFAULT 0 NOT NULL,
         destination VARCHAR(192) DEFAULT '' NOT NULL,
         flags <int> DEFAULT 0 NOT NULL,
         priority <int> DEFAULT 0 NOT NULL,
         attrs VARCHAR(128) DEFAULT '' NOT NULL,
         description VARCHAR(64) DEFAULT '' NOT NULL",
    )
}
