# Stands in for Grafana in tests/compose/run: looks for what it would read, as it would, then answers GET /api/health with 200.
use strict;
use warnings;
use IO::Socket::INET;
use JSON::PP;

sub slurp {
    my ($file) = @_;
    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

die "uid $>, and not 472\n" unless $> == 472;
my ($datasource) = slurp('/etc/grafana/provisioning/datasources/tandem.yml') =~ m{^\s+url: http://([\d.]+:\d+)$}m or die "no url\n";
my ($folder) = slurp('/etc/grafana/provisioning/dashboards/tandem.yml') =~ /^\s+path: (\S+)$/m or die "no path\n";
my @dashboards = glob "$folder/*.json";
die "no dashboards in $folder\n" unless @dashboards >= 5;
my %title = map { $_ => decode_json(slurp($_))->{title} // die "$_: no title\n" } @dashboards;
my $home = $ENV{GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH};
die "$home is no dashboard\n" unless $title{$home};
# It keeps its database there.
open my $out, '>', '/var/lib/grafana/grafana.db' or die "/var/lib/grafana: $!\n";
my $peer = IO::Socket::INET->new(PeerAddr => $datasource) or die "$datasource: $!\n";
print $peer "GET /-/ready HTTP/1.0\r\n\r\n";
<$peer> =~ / 200 / or die "$datasource is not ready\n";

my $server = IO::Socket::INET->new(LocalPort => 3000, Listen => 5, ReuseAddr => 1) or die "$!\n";
$SIG{TERM} = sub { exit 0 };
while (my $client = $server->accept) {
    my $line = <$client> // '';
    my $status = $line =~ m{^GET /api/health } ? '200 OK' : '404 Not Found';
    print $client "HTTP/1.0 $status\r\nContent-Length: 0\r\n\r\n";
}
