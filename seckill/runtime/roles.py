"""Admits callers by the roles that their JWT lists."""

from typing import Any

import grpc

from seckill.errors import DependencyUnavailable, IdentityMissing, NotAllowed
from seckill.runtime.identity import IdentityKeyUnknown, TokenVerifier, bearer_token
from seckill.runtime.jwks import KeySet

OPERATOR_ROLE, SERVICE_ROLE = "operator", "service"
Context = grpc.aio.ServicerContext[Any, Any]


class RoleGate:
    """Admits callers whose JWT lists a role."""

    def __init__(self, keys: KeySet, *roles: str, issuer: str, audience: str, setting: str) -> None:
        """
        Args:
            keys: of the issuer.
            roles: one of them admits.
            issuer, audience: what a token must name.
            setting: the variable that names the keys, for the error if they are not loaded.
        """
        self._keys = keys
        self._roles = roles
        self._verifier = TokenVerifier(keys, issuer=issuer, audience=audience)
        self._setting = setting

    async def admit(self, context: Context) -> str:
        """Return the caller's name, which is the subject of their token.

        Raises:
            IdentityMissing, IdentityInvalid: the call proves no identity.
            NotAllowed: the token lists none of the roles.
            DependencyUnavailable: the keys have never been loaded.
        """
        token = bearer_token(_authorization(context))
        if not self._keys.loaded:
            await self._keys.reload_for_unknown_key()
            if not self._keys.loaded:
                raise DependencyUnavailable(
                    f"the keys of {self._setting} are not loaded",
                    metadata={"setting": self._setting},
                )
        try:
            claims = self._verifier.verify(token)
        except IdentityKeyUnknown:
            await self._keys.reload_for_unknown_key()
            claims = self._verifier.verify(token)
        roles = claims.roles
        if not isinstance(roles, list) or not any(role in roles for role in self._roles):
            raise NotAllowed(f"the JWT does not list the role {' or '.join(self._roles)}")
        return claims.user_id


def _authorization(context: Context) -> bytes:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value.encode() if isinstance(value, str) else value
    raise IdentityMissing
