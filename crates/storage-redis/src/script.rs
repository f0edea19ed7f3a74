//! What runs inside the server, whole or not at all: taking the store, applying a batch, keeping and giving back the lock.
//!
//! A row is a field of its table's hash; its key is also a member of the table's sorted set, which has the order that a
//! hash lacks. All keys share one hash tag, so that in a cluster they are on one node. Deliberately absent: connections,
//! and what the answers mean.

use martlet_storage::{Table, Write};
use redis::Cmd;
use std::hash::{DefaultHasher, Hasher};

/// The format of new stores, and the highest one that can be read.
pub const FORMAT: u32 = 1;

/// How long a broker that says nothing still owns the store. It speaks at least once a second.
pub(crate) const LEASE_MILLIS: u64 = 10_000;

/// KEYS: owner, lock. ARGV: holder, lease, epoch that is known to be dead, whether to create, format.
const TAKE: &str = "
local known = redis.call('HGET', KEYS[1], 'format')
if not known and redis.call('EXISTS', KEYS[1]) == 1 then return {'foreign', '', '', '', 0} end
if not known and ARGV[4] == '0' then return {'missing', '', '', '', 0} end
if known and tonumber(known) > tonumber(ARGV[5]) then return {'newer', known, '', '', 0} end
local held = redis.call('GET', KEYS[2])
if held and held ~= ARGV[3] then
  local owner = redis.call('HMGET', KEYS[1], 'batch', 'holder')
  return {'held', held, owner[1] or '0', owner[2] or '', redis.call('PTTL', KEYS[2])}
end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'format', known or ARGV[5])
redis.call('HSETNX', KEYS[1], 'batch', 0)
redis.call('SET', KEYS[2], epoch, 'PX', ARGV[2])
return {known and 'taken' or 'created', tostring(epoch), redis.call('HGET', KEYS[1], 'batch'), '', 0}
";

/// KEYS: owner, lock, then rows and order of each table. ARGV: epoch, number, sum, lease, then the writes.
///
/// The number makes a batch that is sent again harmless, and shows that the server has lost one; the sum tells the same
/// batch from another one with its number. The owner is written last: when memory is short, a first write that needs
/// room is refused before anything is changed, and a batch that begins with deletions goes through as a whole.
const APPLY: &str = "
local owner = redis.call('HMGET', KEYS[1], 'epoch', 'batch', 'sum', 'holder')
local epoch, batch = tonumber(owner[1] or '0'), tonumber(owner[2] or '0')
if epoch > tonumber(ARGV[1]) then return {'fenced', owner[4]} end
if epoch < tonumber(ARGV[1]) then return {'lost', tostring(batch)} end
if batch == tonumber(ARGV[2]) then
  if owner[3] == ARGV[3] then return {'repeated', ''} end
  return {'another', ''}
end
if batch ~= tonumber(ARGV[2]) - 1 then return {'lost', tostring(batch)} end
local at, last = 5, #ARGV
while at < last do
  local code = tonumber(ARGV[at])
  local kind = code % 4
  local rows = 3 + (code - kind) / 2
  local order = rows + 1
  if kind == 0 then
    redis.call('HSET', KEYS[rows], ARGV[at + 1], ARGV[at + 2])
    redis.call('ZADD', KEYS[order], 0, ARGV[at + 1])
    at = at + 3
  elseif kind == 1 then
    redis.call('HDEL', KEYS[rows], ARGV[at + 1])
    redis.call('ZREM', KEYS[order], ARGV[at + 1])
    at = at + 2
  else
    repeat
      local some = redis.call('ZRANGEBYLEX', KEYS[order], ARGV[at + 1], ARGV[at + 2], 'LIMIT', 0, 1000)
      for _, key in ipairs(some) do
        redis.call('HDEL', KEYS[rows], key)
        redis.call('ZREM', KEYS[order], key)
      end
    until #some == 0
    at = at + 3
  end
end
redis.call('HSET', KEYS[1], 'batch', ARGV[2], 'sum', ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
return {'applied', ''}
";

/// KEYS: owner, lock. ARGV: epoch, lease.
const KEEP: &str = "
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
";

/// KEYS: lock. ARGV: epoch.
const GIVE_BACK: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
";

/// The names of all keys of one store.
pub(crate) struct Keys {
    pub(crate) owner: String,
    lock: String,
    /// Of each table: the hash of its rows and the sorted set of their keys.
    tables: Vec<[String; 2]>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        let table = |table: &Table| {
            let name = table.name();
            [
                format!("{{{prefix}}}:{name}"),
                format!("{{{prefix}}}:{name}:keys"),
            ]
        };
        Self {
            owner: format!("{{{prefix}}}:owner"),
            lock: format!("{{{prefix}}}:lock"),
            tables: Table::ALL.iter().map(table).collect(),
        }
    }

    /// The hash of a table's rows.
    pub(crate) fn rows(&self, table: Table) -> &str {
        &self.tables[table as usize][0]
    }

    /// The sorted set of a table's keys.
    pub(crate) fn order(&self, table: Table) -> &str {
        &self.tables[table as usize][1]
    }

    pub(crate) fn take(&self, holder: &str, dead: &str, create: bool) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(TAKE).arg(2).arg(&self.owner).arg(&self.lock);
        cmd.arg(holder).arg(LEASE_MILLIS).arg(dead);
        cmd.arg(u8::from(create)).arg(FORMAT);
        cmd
    }

    pub(crate) fn keep(&self, epoch: u64) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(KEEP).arg(2).arg(&self.owner).arg(&self.lock);
        cmd.arg(epoch).arg(LEASE_MILLIS);
        cmd
    }

    pub(crate) fn give_back(&self, epoch: u64) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(GIVE_BACK).arg(1).arg(&self.lock).arg(epoch);
        cmd
    }

    /// The command that applies `writes` as batch `number`.
    pub(crate) fn apply(&self, epoch: u64, number: u64, writes: &[Write]) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(APPLY).arg(2 + 2 * self.tables.len());
        cmd.arg(&self.owner).arg(&self.lock);
        for names in &self.tables {
            cmd.arg(names);
        }
        cmd.arg(epoch).arg(number).arg(sum(writes));
        cmd.arg(LEASE_MILLIS);
        for write in writes {
            match write {
                Write::Put { table, key, value } => {
                    cmd.arg(code(*table, 0)).arg(key).arg(value.as_bytes());
                }
                Write::Delete { table, key } => {
                    cmd.arg(code(*table, 1)).arg(key);
                }
                Write::DeletePrefix { table, prefix } => {
                    let [from, to] = range(prefix, None);
                    cmd.arg(code(*table, 2)).arg(from).arg(to);
                }
            }
        }
        cmd
    }
}

fn code(table: Table, kind: u32) -> u32 {
    table as u32 * 4 + kind
}

/// Tells batches apart. Only ever compared with sums of the same process.
fn sum(writes: &[Write]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut field = |kind: u32, bytes: &[u8]| {
        hasher.write_u32(kind);
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    for write in writes {
        match write {
            Write::Put { table, key, value } => {
                field(code(*table, 0), key);
                field(code(*table, 0), value.as_bytes());
            }
            Write::Delete { table, key } => field(code(*table, 1), key),
            Write::DeletePrefix { table, prefix } => field(code(*table, 2), prefix),
        }
    }
    hasher.finish()
}

/// The bounds of ZRANGEBYLEX for keys that start with `prefix` and come behind `after`.
pub(crate) fn range(prefix: &[u8], after: Option<&[u8]>) -> [Vec<u8>; 2] {
    let from = match after {
        Some(after) => [b"(", after].concat(),
        None => [b"[", prefix].concat(),
    };
    // The first key behind all of them: without the highest bytes at the end, the last one raised.
    let mut to = prefix.to_vec();
    while to.last() == Some(&0xFF) {
        to.pop();
    }
    match to.last_mut() {
        Some(last) => {
            *last += 1;
            to.insert(0, b'(');
        }
        None => to.push(b'+'),
    }
    [from, to]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_the_last_key_of_its_prefix() {
        let check = |prefix: &[u8], after: Option<&[u8]>, expect: [&[u8]; 2]| {
            assert_eq!(range(prefix, after), expect, "{prefix:?} after {after:?}");
        };
        check(b"", None, [b"[", b"+"]);
        check(b"ab", None, [b"[ab", b"(ac"]);
        check(b"a\xFF", None, [b"[a\xFF", b"(b"]);
        check(b"\xFF\xFF", None, [b"[\xFF\xFF", b"+"]);
        check(b"ab", Some(b"abc"), [b"(abc", b"(ac"]);
    }

    #[test]
    fn a_sum_tells_batches_apart() {
        let put = |key: &[u8], value: &[u8]| Write::Put {
            table: Table::Queue,
            key: key.to_vec(),
            value: martlet_storage::Value::Record(value.to_vec()),
        };
        let delete = Write::Delete {
            table: Table::Queue,
            key: b"a".to_vec(),
        };
        assert_eq!(sum(&[put(b"a", b"bc")]), sum(&[put(b"a", b"bc")]));
        assert_ne!(sum(&[put(b"a", b"bc")]), sum(&[put(b"ab", b"c")]));
        assert_ne!(sum(&[put(b"a", b"")]), sum(&[delete]));
    }
}
