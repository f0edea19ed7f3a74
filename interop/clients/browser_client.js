#!/usr/bin/env node
// MQTT.js in a page of headless Chromium against a broker: over WebSocket, and over WebSocket and TLS. Prints lines as
// harness.py describes them. The page comes from this program, which the page also tells what came of its checks.
'use strict'

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const http = require('node:http')
const os = require('node:os')
const path = require('node:path')

const PATIENCE = 120_000

function flag (name) {
  const position = process.argv.indexOf(name)
  return position < 0 ? undefined : process.argv[position + 1]
}

// Runs in the page: what is published to a topic comes back, at each QoS, small and large.
async function inPage (urls) {
  const results = []
  const within = (promise, what) => Promise.race([
    promise,
    new Promise((resolve, reject) => setTimeout(() => reject(new Error(`no ${what}`)), 20_000))
  ])
  for (const [transport, url] of Object.entries(urls)) {
    for (const [version, protocolVersion] of Object.entries({ '3.1.1': 4, '5.0': 5 })) {
      for (const [name, qos, size] of [['QoS 0', 0, 10], ['QoS 1', 1, 10], ['QoS 2', 2, 10], ['1 MiB', 1, 1 << 20]]) {
        let note = ''
        try {
          const client = mqtt.connect(url, { protocolVersion, reconnectPeriod: 0 })
          await within(new Promise((resolve, reject) => {
            client.once('connect', resolve)
            client.once('error', reject)
            client.once('close', () => reject(new Error('closed before CONNACK')))
          }), 'CONNACK')
          const topic = `browser/${Math.random()}`
          await within(client.subscribeAsync(topic, { qos }), 'SUBACK')
          const came = new Promise((resolve) => client.once('message', (_, payload) => resolve(payload)))
          await within(client.publishAsync(topic, 'x'.repeat(size), { qos }), 'acknowledgement')
          const payload = await within(came, 'message')
          if (payload.length !== size) throw new Error(`${payload.length} bytes instead of ${size}`)
          await within(client.endAsync(), 'end')
        } catch (error) {
          note = String(error)
        }
        results.push([`${version} ${transport} ${name}`, note])
      }
    }
  }
  await fetch('/results', { method: 'POST', body: JSON.stringify(results) })
}

function main () {
  const host = flag('--host') ?? '127.0.0.1'
  const urls = {}
  if (flag('--ws-port')) urls.WebSocket = `ws://${host}:${flag('--ws-port')}/mqtt`
  if (flag('--wss-port')) urls.WSS = `wss://${host}:${flag('--wss-port')}/mqtt`
  const library = path.join(path.dirname(require.resolve('mqtt/package.json')), 'dist', 'mqtt.min.js')
  const page = `<!doctype html><meta charset="utf-8"><title>MQTT</title><script src="/mqtt.js"></script>
    <script>(${inPage})(${JSON.stringify(urls)})</script>`
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'martlet-browser-'))
  let browser
  const end = (code) => {
    browser?.kill('SIGKILL')
    browser?.once('exit', () => {
      fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
      process.exit(code)
    })
  }
  const server = http.createServer((request, response) => {
    if (request.url === '/results') {
      let body = ''
      request.on('data', (chunk) => { body += chunk })
      request.on('end', () => {
        response.end()
        for (const [name, note] of JSON.parse(body)) {
          console.log(`RESULT\t${name}\t${note ? 'failed' : 'ok'}\t${note.replace(/\s+/g, ' ').slice(0, 200)}`)
        }
        end(0)
      })
    } else if (request.url === '/mqtt.js') {
      response.setHeader('content-type', 'text/javascript')
      fs.createReadStream(library).pipe(response)
    } else {
      response.setHeader('content-type', 'text/html')
      response.end(request.url === '/' ? page : '')
    }
  })
  server.listen(0, '127.0.0.1', () => {
    // The authority is one for tests, which no browser knows; the sandbox needs rights that containers lack.
    browser = spawn('chromium', [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
      '--ignore-certificate-errors', `--user-data-dir=${profile}`, `http://127.0.0.1:${server.address().port}/`
    ], { stdio: ['ignore', 'inherit', 'inherit'] })
    browser.once('error', (error) => { console.error(error); process.exit(1) })
  })
  setTimeout(() => { console.error('the page did not come to its end'); end(1) }, PATIENCE)
}

main()
