// The tokens of a login as credentials: the access token for the host that takes it, the others for the
// endpoint that renews them, each used only where its placeholder stands. INVARIANT: I5: what renews is
// for renewals that the daemon raises. An agent would have another login taken for its user's: it
// knows a code for one, and what the endpoint answers with takes the place of what is held.

import { parseHost } from '../core/target.ts';
import type { LoginTokens } from '../sandbox/profiles/login-file.ts';
import type { Login } from '../sandbox/profiles/profile.ts';
import type { CredentialSpec, RenewedTokens } from '../vault/credential.ts';

/** No name in a configuration begins like this. */
export function namesOf({
  name,
}: Login): Readonly<Record<'access' | 'refresh' | 'idToken', string>> {
  const access = `_login-${name}`;
  return { access, refresh: `${access}-refresh_token`, idToken: `${access}-id_token` };
}

export interface LoginCredential {
  readonly spec: CredentialSpec;
  readonly value: string;
}

/** Of a renewal. */
export function credentialsOf(
  login: Login,
  environment: string,
  tokens: LoginTokens,
  onRenewed: (tokens: RenewedTokens) => void,
): readonly LoginCredential[] {
  const names = namesOf(login);
  const { path } = login.renewal;
  const common = { environment, port: 443, presented: true };
  const endpoint = {
    ...common,
    host: parseHost(login.renewal.host),
    methods: ['POST'],
    allowsPath: (asked: string) => asked === path,
  };
  const field = (key: string) => ({ kind: 'field', key }) as const;
  const access: CredentialSpec = {
    ...common,
    name: names.access,
    host: parseHost(login.host),
    allowsPath: () => true,
    place: { kind: 'header', name: 'authorization', format: 'Bearer {}' },
  };
  const refresh: CredentialSpec = {
    ...endpoint,
    name: names.refresh,
    place: field('refresh_token'),
    mints: {
      kind: 'renewed',
      names: {
        access_token: names.access,
        refresh_token: names.refresh,
        ...(login.idToken === undefined ? {} : { id_token: names.idToken }),
      },
      onRenewed,
    },
  };
  const id: CredentialSpec = { ...endpoint, name: names.idToken, place: field('id_token') };
  return [
    { spec: access, value: tokens.access },
    { spec: refresh, value: tokens.refresh },
    ...(tokens.idToken === undefined ? [] : [{ spec: id, value: tokens.idToken }]),
  ];
}

/** As the run holds them that uses the login. */
export function forAgent(credentials: readonly LoginCredential[]): readonly LoginCredential[] {
  return credentials.map(({ spec: { mints: _, ...spec }, value }) => ({
    spec: { ...spec, reserved: spec.place.kind === 'field' },
    value,
  }));
}
