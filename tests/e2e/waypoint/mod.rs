//! Services behind a waypoint, as their users see them: routes, resilience, policies, identities.
//!
//! The Gateway API's conformance cases (at 4564255) and where they are here. The tests check more than those
//! do: what was sent on and in which namespace it arrived, every part of a Location, how often it was tried,
//! what the author is told, and that no request fails while configuration changes.
//!
//! | mesh case | test |
//! |---|---|
//! | MeshBasic, MeshTrafficSplit, MeshHTTPRouteSimpleSameNamespace, MeshHTTPRouteNamedRule, MeshHTTPRouteMatching, MeshHTTPRouteQueryParamMatching | [`matching`] `requests_are_matched_by_path_method_header_and_query` |
//! | MeshHTTPRoute303Redirect, 307, 308, RedirectHostAndStatus, RedirectPath, RedirectPort, SchemeRedirect, RewritePath | [`filters`] `requests_are_redirected_rewritten_and_edited`, `a_redirect_names_the_port_that_is_meant` |
//! | MeshHTTPRouteRequestHeaderModifier, BackendRequestHeaderModifier | [`filters`] `headers_are_edited_both_ways_at_the_rule_and_at_the_backend` |
//! | MeshGRPCRouteRequestHeaderModifier | [`filters`] `headers_of_calls_are_edited_as_well` |
//! | MeshHTTPRouteWeight, MeshGRPCRouteWeight | [`traffic`] `shares_are_per_request_on_every_protocol` |
//! | MeshConsumerRoute | [`parents`] `a_consumer_s_route_is_for_its_own_namespace` |
//! | MeshFrontend (feature MeshClusterIPMatching), MeshFrontendHostname, MeshPorts | [`parents`] `a_route_belongs_to_the_address_that_was_dialled` |
//!
//! | case of gateways, with a Service as parent | test |
//! |---|---|
//! | HTTPRouteExactPathMatching, HTTPRouteMatching, HTTPRouteQueryParamMatching, HTTPRouteNamedRule | as of the mesh |
//! | HTTPRouteMethodMatching, HTTPRouteHeaderMatching, HTTPRoutePathMatchOrder | [`matching`] `the_most_specific_match_wins` |
//! | HTTPRouteMatchingAcrossRoutes; HTTPRouteHostnameIntersection, ListenerHostnameMatching (no hostnames here) | [`matching`] `routes_of_one_service_are_one_table` |
//! | GRPCExactMethodMatching, GRPCRouteHeaderMatching, GRPCRouteNamedRule | [`matching`] `calls_are_matched_by_service_method_and_header` |
//! | GRPCRouteRequestHeaderModifier, GRPCRouteWeight | as of the mesh |
//! | HTTPRoute303Redirect, 307, 308, RedirectHostAndStatus, RedirectPath, RedirectPort, RedirectScheme, RedirectPortAndScheme, RewritePath, RewriteHost | [`filters`], as of the mesh |
//! | HTTPRouteRequestHeaderModifier, ResponseHeaderModifier, BackendRequestHeaderModifier | [`filters`], as of the mesh |
//! | HTTPRouteRequestHeaderModifierBackendWeights | [`filters`] `edits_of_a_backend_go_with_it` |
//! | HTTPRouteCORS | [`filters`] `other_origins_are_let_in_as_the_route_says` |
//! | HTTPRouteBackendURLRewrite | [`filters`] `a_backend_has_its_own_host_and_path` |
//! | HTTPRouteBackendRequestRedirect (not supported: refused) | [`statuses::routes`] `routes_are_told_whether_they_are_in_force` |
//! | HTTPRouteRequestMirror, MultipleMirrors, PercentageMirror | [`traffic`] `a_mirror_gets_a_copy_and_does_not_matter` |
//! | GRPCRouteRequestMirror (no case of its own there) | [`traffic`] `a_mirror_gets_calls_as_well` |
//! | HTTPRouteWeight, GRPCRouteWeight | [`traffic`] `shares_are_per_request_on_every_protocol` |
//! | HTTPRouteBackendProtocolH2C, BackendProtocolWebSocket | [`traffic`] `a_port_of_a_backend_says_what_it_speaks` |
//! | TCPRouteWeightedRouting, TLSRouteSimpleSameNamespace | [`traffic`] `connections_are_routed_by_weight_and_by_name` |
//! | HTTPRouteRetry, RetryConnectionError | [`resilience`] `failed_attempts_are_made_again_as_the_route_says` |
//! | HTTPRouteRetryWithTimeouts | [`resilience`] `attempts_share_the_time_of_their_request` |
//! | HTTPRouteTimeoutRequest, TimeoutBackendRequest | [`resilience`] `time_is_limited_as_the_route_says` |
//! | HTTPRouteNoBackendRefs, InvalidNonExistentBackendRef, InvalidBackendRefUnknownKind, InvalidCrossNamespaceBackendRef, ReferenceGrant | [`backends`] `what_cannot_be_routed_is_answered_and_not_guessed` |
//! | HTTPRouteInvalidReferenceGrant, PartiallyInvalidViaInvalidReferenceGrant | [`backends`] `a_grant_lets_in_what_it_says` |
//! | HTTPRouteServiceTypes | [`backends`] `services_of_every_type_are_backends` |
//! | HTTPRouteCrossNamespace (a consumer's route) | [`parents`] `a_consumer_s_route_is_for_its_own_namespace` |
//! | HTTPRouteListenerPortMatching | [`parents`] `a_route_belongs_to_the_address_that_was_dialled` |
//! | HTTPRouteInvalidParentRefNotMatchingListenerPort, NotMatchingSectionName, SectionNameNotMatchingPort; TCPRouteInvalidBackendRefNonexistent, TLSRouteInvalidBackendRefNonexistent | [`statuses::routes`] `routes_are_told_whether_they_are_in_force` |
//! | HTTPRouteObservedGenerationBump | [`statuses`] `a_status_follows_its_object_and_nothing_else_moves` |
//! | GatewayListenerUnsupportedProtocol | [`statuses`] `a_gateway_is_programmed_while_an_instance_is_ready` |
//! | BackendTLSPolicyInvalidCACertificateRef | [`statuses::policies`] `policies_and_services_are_told_whether_a_waypoint_has_them` |
//!
//! Cases of listeners, TLS termination, ListenerSets, several gateways and UDP have no counterpart in a mesh.

mod attacks;
mod authorizers;
mod backends;
mod balance;
mod call;
mod canary;
mod changes;
mod concerns;
mod deadlines;
mod detection;
mod endings;
mod envoy;
mod filters;
mod limits;
mod many;
mod matching;
mod nginx;
mod parents;
mod policies;
mod required;
mod resilience;
mod revocation;
mod rollouts;
mod rows;
mod scene;
mod shown;
mod slow;
mod statuses;
mod telemetry;
mod tls;
mod tokens;
mod told;
mod traces;
mod traffic;
