// Who is logged in, and which session is open (#/1).
import { useEffect, useState, type ReactElement } from 'react'
import { ConnectionStatus, RoomsProvider } from 'rooms-client/react'
import * as api from './api.js'
import { DesignSession } from './DesignSession.js'

function useHash(): string {
  const [hash, setHash] = useState(location.hash)
  useEffect(() => {
    const changed = () => setHash(location.hash)
    addEventListener('hashchange', changed)
    return () => removeEventListener('hashchange', changed)
  }, [])
  return hash.replace(/^#\/?/, '')
}

function Login({ done }: { done: () => void }): ReactElement {
  const [users, setUsers] = useState<api.User[]>([])
  const [failure, setFailure] = useState('')
  useEffect(() => {
    api.users().then(setUsers, (error: Error) => setFailure(error.message))
  }, [])
  return (
    <main className="login">
      <h1>Design sessions</h1>
      <p>Choose who you are. Alice and Carol work at the same tenant and see each other’s session; Bob is at another one.</p>
      <ul>
        {users.map((user) => (
          <li key={user.id}>
            <button
              className="choice"
              onClick={() => {
                api.logIn(user.id)
                location.hash = ''
                done()
              }}
            >
              <b>{user.name}</b>
              <span>{user.tenant}</span>
            </button>
          </li>
        ))}
      </ul>
      {failure && <p role="alert">The backend does not answer: {failure}</p>}
    </main>
  )
}

function Home({ user, leave }: { user: string; leave: () => void }): ReactElement {
  const hash = useHash()
  const [sessions, setSessions] = useState<{ id: string }[]>()
  const [failure, setFailure] = useState('')
  useEffect(() => {
    api.sessions().then(setSessions, (error: Error) => setFailure(error.message))
  }, [user])
  const id = hash || sessions?.[0]?.id
  return (
    <>
      <header className="bar">
        <h1>
          <span className="mark" aria-hidden="true" /> Design session
        </h1>
        <nav aria-label="Sessions">
          {(sessions?.length ?? 0) > 1 && sessions?.map((session) => (
            <a key={session.id} href={`#/${session.id}`} aria-current={session.id === id ? 'page' : undefined}>
              {session.id}
            </a>
          ))}
        </nav>
        <ConnectionStatus className="pill" />
        <button className="quiet" onClick={leave}>
          <span className="user">{user} · </span>log out
        </button>
      </header>
      {failure && <p role="alert">{failure}</p>}
      {id && <DesignSession id={id} key={id} />}
    </>
  )
}

export function App(): ReactElement {
  const [user, setUser] = useState(api.loggedIn())
  if (!user) return <Login done={() => setUser(api.loggedIn())} />
  return (
    <RoomsProvider url="/ws" getToken={api.getToken}>
      <Home
        user={user}
        leave={() => {
          api.logOut()
          setUser('')
        }}
      />
    </RoomsProvider>
  )
}
