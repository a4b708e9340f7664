export { useWebSocket, useSessionWebSocket, WS_STATE } from './old.js'
