// Subscribers over Node's own WebSocket, for test_exactly_once.py: some that stay, some that come
// and go. Prints `ready` when those that stay have their first state, and at the end, which is an event
// of type `end` in every group, one line of JSON for each connection: how it joined and what it saw.

const plan = JSON.parse(process.argv[2])
const { url, stream, groups, items, comers, seed } = plan

// A small generator with a seed, so that a run can be had again.
let state = seed >>> 0
function below(limit) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 4294967296) * limit)
}
const pick = (list) => list[below(list.length)]

const records = []
const open = new Set()
let finished = false

function connect(path, record) {
  const socket = new WebSocket(url + path)
  record.frames = []
  record.code = null
  records.push(record)
  open.add(socket)
  socket.onmessage = ({ data }) => {
    record.frames.push(data)
    socket.onframe?.(data)
  }
  socket.onclose = ({ code }) => {
    open.delete(socket)
    record.code = code
    socket.ongone?.()
  }
  return new Promise((resolve, reject) => {
    socket.onopen = () => {
      if (finished) socket.close() // The end came meanwhile, and found nothing to close.
      resolve(socket)
    }
    socket.onerror = () => reject(new Error(`no connection to ${path}`))
  })
}

function send(socket, type, subscriptionId, groupId, id) {
  socket.send(JSON.stringify({ type, data: { subscriptionId, streamName: stream, groupId, id } }))
}

const path = (...segments) => "/stream/" + [stream, ...segments].map(encodeURIComponent).join("/")

// The next `count` frames, or the end of the connection.
function frames(socket, count) {
  return new Promise((resolve) => {
    socket.ongone = resolve
    socket.onframe = () => --count === 0 && resolve()
    if (socket.readyState !== WebSocket.OPEN) resolve()
  })
}

async function comeAndGo() {
  while (!finished) {
    const mode = pick(["group", "item", "both"])
    const group = pick(groups)
    const item = pick(items)
    if (mode !== "both" && below(2) === 0) {
      const socket = await connect(mode === "item" ? path(group, item) : path(group), { mode, stays: false })
      await frames(socket, 1 + below(40))
      socket.close()
      continue
    }
    const socket = await connect("/", { mode, stays: false })
    for (let round = 1 + below(4); round > 0 && !finished; round--) {
      const group = pick(groups)
      if (mode !== "item") send(socket, "join", "group", group)
      if (mode !== "group") send(socket, "join", "item", group, item)
      await frames(socket, 1 + below(40))
      // With two subscriptions, what comes between their ends would look like a gap.
      if (socket.readyState !== WebSocket.OPEN || mode === "both") break
      send(socket, "leave", mode, group)
    }
    socket.close()
  }
}

async function main() {
  let ends = 0
  const member = async (path, names) => {
    const record = { mode: "group", stays: true }
    const socket = await connect(path, record)
    const synced = new Promise((resolve) => {
      let syncs = 0
      socket.onframe = (text) => {
        if (text.includes('"event":{"type":"sync"') && ++syncs === names.length) resolve()
        if (text.includes('"event":{"type":"event","event":{"type":"end"') && ++ends === 2 * groups.length) end()
      }
    })
    if (path === "/") for (const name of names) send(socket, "join", `of ${name}`, name)
    for (const text of record.frames.splice(0)) socket.onmessage({ data: text }) // Came before we looked.
    await synced
  }
  await member("/", groups)
  for (const group of groups) await member(path(group), [group])
  console.log("ready")
  const loops = Array.from({ length: comers }, comeAndGo)

  function end() {
    finished = true
    for (const socket of open) if (socket.readyState === WebSocket.OPEN) socket.close()
    Promise.all(loops).then(() => {
      const wait = () => {
        if (open.size > 0) return setTimeout(wait, 5)
        process.stdout.write(records.map((record) => JSON.stringify(record)).join("\n") + "\n")
      }
      wait()
    })
  }
}

await main()
