// A page of the platform: it knows hooks/index.js only.
import { useState } from 'react'
import { useSessionWebSocket, WS_STATE } from './hooks/index.js'

// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Any = any

export function App({ id }: { id: string }) {
  const [lines, setLines] = useState<string[]>([])
  const add = (line: string) => setLines((all) => [...all, line])
  const { state, isConnected, sessionId, lastMessage } = useSessionWebSocket(id, {
    onSessionUpdate: (data: Any) => add(`state ${data.state} ${data.progress}`),
    onNewMessage: (data: Any) => add(`message ${data.message.content}`),
    onSpecGenerated: (data: Any) => add(`spec ${data.spec.title}`),
    onTicketsGenerated: (data: Any) => add(`tickets ${data.count}`),
    onApprovalNeeded: (data: Any) => add(`approve? ${data.approvalId}`),
    onApprovalResolved: (data: Any) => add(`resolved ${data.status}`),
    onBuildProgress: (data: Any) => add(`progress ${data.percent}`),
  })
  return (
    <main>
      <header>{state === WS_STATE.CONNECTED && isConnected ? `live in ${sessionId}` : state}</header>
      <ol>{lines.map((line, n) => <li key={n}>{line}</li>)}</ol>
      <footer>{lastMessage?.type}</footer>
    </main>
  )
}
