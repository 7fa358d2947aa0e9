/** The API, on the host of this page, so that both belong to one site and browsers send the cookie. */
export const API = `${location.protocol}//${location.hostname}:8000/api/v1`;
