// Hooks as the platform had them, on a bare WebSocket: for react.test.tsx, which runs one app on these and then on ours.
import { useCallback, useEffect, useRef, useState } from 'react'

export const WS_STATE = {
  CONNECTING: 'connecting',
  CONNECTED: 'connected',
  RECONNECTING: 'reconnecting',
  DISCONNECTED: 'disconnected',
  ERROR: 'error',
}
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Any = any

export const place: { url: string; token: string } = { url: '', token: '' }

export function useWebSocket({ room, handlers = {}, enabled = true }: Any = {}): Any {
  const [state, setState] = useState(WS_STATE.DISCONNECTED)
  const [lastMessage, setLastMessage] = useState<Any>(null)
  const socket = useRef<WebSocket | null>(null)
  const latest = useRef(handlers)
  latest.current = handlers
  useEffect(() => {
    if (!enabled || !room) return
    let timer: ReturnType<typeof setTimeout>
    const connect = () => {
      setState(WS_STATE.CONNECTING)
      const ws = (socket.current = new WebSocket(`${place.url}?token=${place.token}`))
      ws.onmessage = ({ data }) => {
        const message = JSON.parse(data)
        if (message.type === 'connected') {
          setState(WS_STATE.CONNECTED)
          latest.current.onConnect?.()
          ws.send(JSON.stringify({ type: 'subscribe', room }))
          return
        }
        if (!message.room || message.type === 'subscribed') return
        setLastMessage(message)
        latest.current[message.type]?.(message)
      }
      ws.onclose = () => {
        setState(WS_STATE.RECONNECTING)
        latest.current.onDisconnect?.()
        timer = setTimeout(connect, 1000)
      }
    }
    connect()
    return () => {
      clearTimeout(timer)
      if (socket.current) socket.current.onclose = null
      socket.current?.close()
    }
  }, [room, enabled])
  const send = useCallback((message: object) => socket.current?.send(JSON.stringify(message)), [])
  const subscribe = useCallback((other: string) => send({ type: 'subscribe', room: other }), [send])
  const unsubscribe = useCallback((other: string) => send({ type: 'unsubscribe', room: other }), [send])
  const reconnect = useCallback(() => socket.current?.close(), [])
  return { state, connectionState: state, isConnected: state === WS_STATE.CONNECTED, lastMessage, send, subscribe, unsubscribe, reconnect }
}

export function useSessionWebSocket(sessionId: Any, handlers: Any = {}, enabled = true): Any {
  return {
    ...useWebSocket({
      room: sessionId ? `session:${sessionId}` : null,
      enabled,
      handlers: {
        'session:update': handlers.onSessionUpdate,
        'session:message': handlers.onNewMessage,
        'spec:generated': handlers.onSpecGenerated,
        'tickets:generated': handlers.onTicketsGenerated,
        'approval:requested': handlers.onApprovalNeeded,
        'approval:resolved': handlers.onApprovalResolved,
        'build:progress': handlers.onBuildProgress,
        onConnect: handlers.onConnect,
        onDisconnect: handlers.onDisconnect,
      },
    }),
    sessionId,
  }
}
