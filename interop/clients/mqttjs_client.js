#!/usr/bin/env node
// MQTT.js against a broker: MQTT 3.1.1 and 5.0 over TCP, TLS, WebSocket and WebSocket over TLS. Prints lines as harness.py
// describes them.
'use strict'

const fs = require('node:fs')
const mqtt = require('mqtt')

const PATIENCE = 20_000
const LARGE = Buffer.alloc(1 << 20, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)))
const VERSIONS = { '3.1.1': 4, '5.0': 5 }

let counter = 0
const unique = (prefix) => `${prefix}${++counter}x${Date.now() % 100000}`

function flag (name) {
  const position = process.argv.indexOf(name)
  return position < 0 ? undefined : process.argv[position + 1]
}

function expect (actual, expected) {
  const [got, wanted] = [JSON.stringify(actual), JSON.stringify(expected)]
  if (got !== wanted) throw new Error(`${got.slice(0, 100)} instead of ${wanted.slice(0, 100)}`)
}

function within (promise, what) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what}`)), PATIENCE)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// A connected client whose deliveries are taken with receive().
async function open (url, version, options = {}) {
  const { clean = true, clientId = unique('jc'), will } = options
  const settings = { protocolVersion: VERSIONS[version], clean, clientId, will, reconnectPeriod: 0 }
  if (flag('--ca')) settings.ca = fs.readFileSync(flag('--ca'))
  if (version === '5.0') settings.properties = { sessionExpiryInterval: clean ? 0 : 300 }
  const client = mqtt.connect(url, settings)
  const waiting = []
  const takers = []
  client.on('message', (topic, payload, packet) => {
    const taker = takers.shift()
    if (taker) taker(packet)
    else waiting.push(packet)
  })
  const connack = await within(new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
    client.once('close', () => reject(new Error('closed before CONNACK')))
  }), 'CONNACK')
  client.on('error', () => {})
  return {
    connack,
    client,
    subscribe: async (topic, qos) => {
      const granted = await within(client.subscribeAsync(topic, { qos }), 'SUBACK')
      expect(granted.map((row) => row.qos), [qos])
    },
    publish: (topic, payload, settings) => within(client.publishAsync(topic, payload, settings), 'acknowledgement'),
    receive: () => within(new Promise((resolve) => {
      if (waiting.length) resolve(waiting.shift())
      else takers.push(resolve)
    }), 'message'),
    close: () => within(client.endAsync(), 'end')
  }
}

const CHECKS = {
  connect: async (url, version) => (await open(url, version)).close(),
  retain: async (url, version) => {
    const topic = unique('retain/')
    const session = await open(url, version)
    await session.publish(topic, 'kept', { qos: 1, retain: true })
    await session.subscribe(topic, 1)
    const packet = await session.receive()
    expect([packet.payload.toString(), packet.retain], ['kept', true])
    await session.publish(topic, '', { qos: 1, retain: true })
    await session.close()
  },
  will: async (url, version) => {
    const topic = unique('will/')
    const watcher = await open(url, version)
    await watcher.subscribe(topic, 1)
    const dying = await open(url, version, { will: { topic, payload: Buffer.from('gone'), qos: 1 } })
    dying.client.stream.destroy()
    expect((await watcher.receive()).payload.toString(), 'gone')
    await watcher.close()
  },
  resume: async (url, version) => {
    const [topic, clientId] = [unique('resume/'), unique('jr')]
    const first = await open(url, version, { clean: false, clientId })
    expect(first.connack.sessionPresent, false)
    await first.subscribe(topic, 2)
    await first.close()
    const other = await open(url, version)
    await other.publish(topic, 'one', { qos: 1 })
    await other.publish(topic, 'two', { qos: 2 })
    await other.close()
    const second = await open(url, version, { clean: false, clientId })
    expect(second.connack.sessionPresent, true)
    const received = [await second.receive(), await second.receive()]
    expect(received.map((packet) => packet.payload.toString()), ['one', 'two'])
    await second.close()
    await (await open(url, version, { clientId })).close()
  },
  '1 MiB': async (url, version) => {
    const topic = unique('large/')
    const session = await open(url, version)
    await session.subscribe(topic, 2)
    await session.publish(topic, LARGE, { qos: 2 })
    expect((await session.receive()).payload.equals(LARGE), true)
    await session.close()
  },
  // More than a small Receive Maximum, sent without waiting, as this client does.
  'burst of 500': async (url, version) => {
    const topic = unique('burst/')
    const session = await open(url, version)
    await session.subscribe(topic, 2)
    const sent = []
    for (let number = 0; number < 500; number++) sent.push(session.publish(topic, `${number}`, { qos: 2 }))
    await Promise.all(sent)
    const received = []
    for (let number = 0; number < 500; number++) received.push(Number((await session.receive()).payload))
    expect(received, Array.from({ length: 500 }, (_, number) => number))
    await session.close()
  }
}

for (const qos of [0, 1, 2]) {
  CHECKS[`QoS ${qos}`] = async (url, version) => {
    const topic = unique('qos/')
    const session = await open(url, version)
    await session.subscribe(topic, qos)
    for (let number = 0; number < 10; number++) await session.publish(topic, `m${number}`, { qos })
    for (let number = 0; number < 10; number++) {
      const packet = await session.receive()
      expect([packet.payload.toString(), packet.qos], [`m${number}`, qos])
    }
    await session.close()
  }
}

async function main () {
  const host = flag('--host') ?? '127.0.0.1'
  const urls = { TCP: `mqtt://${host}:${flag('--port')}` }
  if (flag('--ws-port')) urls.WebSocket = `ws://${host}:${flag('--ws-port')}/mqtt`
  if (flag('--tls-port')) urls.TLS = `mqtts://${host}:${flag('--tls-port')}`
  if (flag('--wss-port')) urls.WSS = `wss://${host}:${flag('--wss-port')}/mqtt`
  for (const [transport, url] of Object.entries(urls)) {
    for (const version of Object.keys(VERSIONS)) {
      for (const [name, run] of Object.entries(CHECKS)) {
        let verdict = 'ok\t'
        try {
          await run(url, version)
        } catch (error) {
          console.error(error)
          verdict = `failed\t${String(error).replace(/\s+/g, ' ').slice(0, 200)}`
        }
        console.log(`RESULT\t${version} ${transport} ${name}\t${verdict}`)
      }
    }
  }
  process.exit(0)
}

main()
