// Prints the secrets in a backup of phasesync, as docs/storage-format.md describes it. Node 18 or newer, no packages.
//
//   node read-backup.mjs BACKUP ROOT_KEY_FILE [ROOT_KEY_FILE...]
//
// BACKUP is a file that `phasesync db backup` made. Prints a line of JSON for each secret; a binary value is base64.
// Nothing is printed unless all of it authenticates. Several root keys: for a backup from the middle of a rotation.
import { createDecipheriv, createHmac, hkdfSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
const fail = (message) => { throw new Error(message) }

// --- the file of SQLite: https://www.sqlite.org/fileformat2.html
function varint(bytes, at) { // [value, where the next one begins]
  for (let n = 0, value = 0; ; n++) {
    if (n === 8) return [value * 256 + bytes[at + n], at + 9]
    value = value * 128 + (bytes[at + n] & 127)
    if (bytes[at + n] < 128) return [value, at + n + 1]
  }
}

function valuesOf(row) { // The columns of a stored row.
  const values = []
  let [end, at] = varint(row, 0)
  for (let data = end, type; at < end;) {
    [type, at] = varint(row, at)
    const length = type > 11 ? Math.floor((type - 12) / 2) : [0, 1, 2, 3, 4, 6, 8, 8, 0, 0][type]
    if (type === 0) values.push(null)
    else if (type === 8 || type === 9) values.push(type - 8)
    else if (type === 6) values.push(Number(row.readBigInt64BE(data))) // Type 7 are floats: there are none.
    else if (type < 6) values.push(row.readIntBE(data, length))
    else values.push(type % 2 ? row.toString('utf8', data, data + length) : row.subarray(data, data + length))
    data += length
  }
  return values
}

function columnsOf(sql) { // Of CREATE TABLE: in the order in which a row stores them.
  const key = /PRIMARY KEY \((\w+)\)/.exec(sql)?.[1]
  let body = sql.slice(sql.indexOf('(') + 1, sql.lastIndexOf(')'))
  for (let before; before !== body;) [before, body] = [body, body.replace(/\([^()]*\)/g, '')]
  const noColumn = /^(CONSTRAINT|PRIMARY|UNIQUE|FOREIGN|CHECK)\b|GENERATED ALWAYS/ // SQLite computes the last kind.
  const columns = body.split(',').map((part) => part.trim()).filter((part) => !noColumn.test(part))
  return columns.map((column) => column.replaceAll('"', '').split(/\s+/)).map(([name, type, ...more]) => (
    { name, isRowid: type === 'INTEGER' && (name === key || more.includes('PRIMARY')) }))
}

function openDatabase(path) { // A function that returns the rows of a table, as objects.
  const file = readFileSync(path)
  if (file.toString('latin1', 0, 16) !== 'SQLite format 3\0') fail(`${path} is no SQLite database`)
  if (file[19] !== 1) fail(`${path} is in use, and part of it in another file: copy it with phasesync db backup`)
  const size = file.readUInt16BE(16) === 1 ? 65536 : file.readUInt16BE(16), usable = size - file[20]

  function rowAt(at, length) { // What does not fit into a page goes on in a chain of others.
    const least = Math.floor(((usable - 12) * 32) / 255) - 23, fits = least + ((length - least) % (usable - 4))
    const here = length <= usable - 35 ? length : fits <= usable - 35 ? fits : least
    const parts = [file.subarray(at, at + here)]
    let page = here < length ? file.readUInt32BE(at + here) : 0
    for (let left = length - here; left > 0; left -= usable - 4) {
      const start = (page - 1) * size
      parts.push(file.subarray(start + 4, start + 4 + Math.min(left, usable - 4)))
      page = file.readUInt32BE(start)
    }
    return valuesOf(Buffer.concat(parts))
  }

  function* cells(page) { // [rowid, columns] of the rows of a table.
    const start = (page - 1) * size, header = start + (page === 1 ? 100 : 0), kind = file[header]
    if (kind !== 5 && kind !== 13) fail(`${path} is damaged: page ${page} belongs to no table`)
    for (let n = 0; n < file.readUInt16BE(header + 3); n++) {
      const at = start + file.readUInt16BE(header + (kind === 5 ? 12 : 8) + 2 * n)
      if (kind === 5) { yield* cells(file.readUInt32BE(at)); continue }
      const [length, afterLength] = varint(file, at), [rowid, row] = varint(file, afterLength)
      yield [rowid, rowAt(row, length)]
    }
    if (kind === 5) yield* cells(file.readUInt32BE(header + 8))
  }

  const tables = new Map([...cells(1)].filter(([, [type]]) => type === 'table').map(([, row]) => [row[1], row]))
  return (name) => {
    if (!tables.has(name)) return [] // A former schema has fewer.
    const [, , , root, sql] = tables.get(name), columns = columnsOf(sql)
    return [...cells(root)].map(([rowid, values]) => Object.fromEntries(
      columns.map((column, n) => [column.name, column.isRowid ? rowid : values[n] ?? null])))
  }
}

// --- the key hierarchy
const joined = (...parts) => Buffer.concat(parts.flatMap((part) => { // Each part follows its length.
  const bytes = Buffer.from(part), length = Buffer.alloc(8)
  length.writeBigUInt64BE(BigInt(bytes.length))
  return [length, bytes]
}))
const derive = (key, purpose) => Buffer.from(hkdfSync('sha256', key, '', `phasesync v1 ${purpose}`, 32))
const hmac = (key, bytes) => createHmac('sha256', key).update(bytes).digest()
function unseal(key, nonce, sealed, associated, what) {
  try {
    const cipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(associated).setAuthTag(sealed.subarray(-16))
    return Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()])
  } catch { return fail(`${what} does not authenticate: it was altered, moved or damaged`) }
}

function openKeys(rows, files) { // The data keys, id -> key, and the function that makes keyed digests.
  const roots = new Map(files.map((file) => {
    const key = Buffer.from(readFileSync(file, 'latin1').trim(), 'base64')
    if (key.length !== 32) fail(`${file} does not hold a root key: 32 bytes as base64 are expected`)
    return [hmac(key, 'phasesync root key id').toString('hex', 0, 6), derive(key, 'wrap')]
  }))
  const keys = new Map(rows.map(({ id, purpose, root_key_id: by, wrapped }) => {
    const root = roots.get(by) ?? fail(`the backup needs the root key ${by}; given: ${[...roots.keys()].join(', ')}`)
    const bound = joined('data key', id, purpose)
    return [id, unseal(root, wrapped.subarray(0, 12), wrapped.subarray(12), bound, `the data key ${id}`)]
  }))
  const digestKey = keys.get(rows.find((row) => row.purpose === 'digest')?.id) ?? fail('it is no database of phasesync')
  return { keys, digest: (purpose, ...parts) => hmac(derive(digestKey, `digest ${purpose}`), joined(...parts)) }
}

// --- what ciphertexts are bound to: row, version, and further columns
const CONTEXTS = {
  'apps.windows': 'id -', 'audit.details': 'number -', 'leases.kept': 'id -', 'lease_events.detail': 'lease_id -',
  'syncs.paused_reason': 'id -', 'syncs.status_reason': 'id -', 'backup_schedules.sealed': 'id version created_at',
  'change_requests.details': 'id version environment_id digest status requested_at expires_at',
  'credentials.sealed': 'id version name type region source_id account',
  'dynamic_secrets.config': 'id version name environment_id path credential_id issuer',
  'instance.registry': 'id - id instance_id created_at restored_at generation_floor',
  'journal.details': 'id generation sync_id remote_name account region arn version_id fingerprint',
  'leases.details': 'id - dynamic_id credential_id max_expires_at',
  'messages.payload': 'id - notification_id', 'notifications.sealed': 'id version name app_id',
  'owned_objects.spec': 'kind/object_id 1 project_id', 'runs.details': 'id 1 sync_id',
  'secret_versions.comment': 'environment_id/secret_id version',
  'secret_versions.value': 'environment_id/secret_id version', 'secrets.name': 'environment_id/id 1',
}

function openColumn(keys, name, row) { // The plaintext of a column; null if it is NULL.
  const [table, column] = name.split('.'), sealed = row[column]
  if (sealed == null) return null
  const part = (word) => /^[a-z]/.test(word) ? word.split('/').map((of) => row[of] ?? '').join('/') : word
  const [id, ...more] = CONTEXTS[name].split(' ').map(part)
  const key = keys.get(sealed.toString('hex', 1, 7)) ?? fail(`${name} names a data key that the backup does not have`)
  const associated = joined(sealed.subarray(0, 7), table, String(id), column, ...more.map(String))
  return unseal(key, sealed.subarray(7, 19), sealed.subarray(19), associated, `${name} of the row ${id}`)
}

// --- what keyed digests cover
const sameAs = (stored, right, what) => (stored && right.equals(stored)) || fail(`the MAC of ${what} is not right`)
const json = (row, names) => JSON.stringify(Object.fromEntries(names.split(' ').map((name) => [name, row[name]])))
function checkEnvironment(row, app, secrets, digest) {
  const names = `app app_id app_key ${row.approvers == null ? '' : 'approvers '}data_key_id id name name_key revision`
  const own = secrets.filter((of) => of.environment_id === row.id).sort((a, b) => (a.id < b.id ? -1 : 1))
  const pointers = own.map((of) => `["${of.id}", "${of.lookup.toString('hex')}", ${of.version}, ${of.is_set === 1}]`)
  const covered = json({ ...row, app: app.name, app_key: app.name_key }, names)
  sameAs(row.mac, digest('environment', covered, `[${pointers.join(', ')}]`), `the environment ${row.id}`)
}

function checkAuditLog(head, rows, keys, digest) { // Each row is chained to the one before.
  let before = head.first_chained
  for (const row of rows) {
    const plain = ['number', 'at', 'kind', 'actor', 'source', 'action', 'object', 'outcome'].map((of) => `${row[of]}`)
    const own = () => digest('audit-row', ...plain, openColumn(keys, 'audit.details', row)) // Retention empties a row.
    if (row.actor !== null) sameAs(row.digest, own(), `the row ${row.number} of the audit log`)
    const chained = digest('audit-chain', before, row.digest)
    sameAs(row.mac, chained, `row ${row.number} of the audit log (or of one missing before it)`)
    before = row.mac
  }
  const covered = [`${head.number}`, `${head.first_number}`, head.chained, head.first_chained]
  sameAs(head.mac, digest('audit-head', ...covered), 'the head of the audit log')
  sameAs(head.chained, before, 'the end of the audit log')
}

// --- what is in it
const TYPES = { b: 'binary', j: 'json', t: 'text' }
function secretsIn(backup, rootKeyFiles) {
  const rows = openDatabase(backup), byId = (table) => new Map(rows(table).map((row) => [row.id, row]))
  const { keys, digest } = openKeys(rows('data_keys'), rootKeyFiles)
  const apps = byId('apps'), environments = byId('environments'), secrets = byId('secrets')
  const versions = rows('secret_versions').map((row) => ({ ...secrets.get(row.secret_id), ...row }))
  for (const row of environments.values()) checkEnvironment(row, apps.get(row.app_id), [...secrets.values()], digest)
  const log = rows('audit').sort((a, b) => a.number - b.number)
  for (const head of rows('audit_head')) checkAuditLog(head, log, keys, digest)
  for (const name of Object.keys(CONTEXTS).filter((name) => name !== 'audit.details')) { // Opened with the chain.
    const table = name.split('.')[0]
    for (const row of table === 'secret_versions' ? versions : rows(table)) openColumn(keys, name, row)
  }
  const byVersion = new Map(versions.map((row) => [`${row.secret_id} ${row.version}`, row]))
  return [...secrets.values()].filter((secret) => secret.is_set).map((secret) => {
    const current = byVersion.get(`${secret.id} ${secret.version}`) ?? fail(`a value of ${secret.id} is missing`)
    const plain = openColumn(keys, 'secret_versions.value', current)
    const environment = environments.get(secret.environment_id), type = TYPES[String.fromCharCode(plain[0])]
    const [path, key] = JSON.parse(openColumn(keys, 'secrets.name', secret))
    const value = plain.toString(type === 'binary' ? 'base64' : 'utf8', 1)
    return { environment: `${apps.get(environment.app_id).name}/${environment.name}`, path, key, type, value }
  })
}

const [backup, ...rootKeyFiles] = process.argv.slice(2)
try {
  if (rootKeyFiles.length === 0) fail('usage: node read-backup.mjs BACKUP ROOT_KEY_FILE [ROOT_KEY_FILE...]')
  for (const secret of secretsIn(backup, rootKeyFiles)) console.log(JSON.stringify(secret))
} catch (error) {
  console.error(`error: ${error.message}`)
  process.exitCode = 1
}
