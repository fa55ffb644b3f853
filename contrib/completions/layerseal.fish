# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_layerseal_global_optspecs
    string join \n vault= v/verbose h/help V/version
end

function __fish_layerseal_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_layerseal_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_layerseal_using_subcommand
    set -l cmd (__fish_layerseal_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c layerseal -n "__fish_layerseal_needs_command" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_needs_command" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_needs_command" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_needs_command" -s V -l version -d 'Print version'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "pull" -d 'Import an image into the vault'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "seal" -d 'Write an image\'s digests into the image, without signing them'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "sign" -d 'Seal an image and sign the seal'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "digest" -d 'Print the digests that a seal signs, and write the files to sign'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "attach" -d 'Make a seal from signatures made elsewhere'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "verify" -d 'Check an image against its seals'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "fetch" -d 'Fetch the seals of podman\'s images from their registries'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "prepare" -d 'Prepare podman\'s images, so that their first start is quick'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "check" -d 'Show which images and containers would start, and why others would not; writes nothing'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "mount" -d 'Verify an image and mount it'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "umount" -d 'Unmount an image'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "status" -d 'List what is mounted, and who signed it'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "push" -d 'Copy an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "export-signatures" -d 'Copy the seals of an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "inspect" -d 'Show an image and its seals'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "images" -d 'List the images in the vault'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "tag" -d 'Give an image in the vault a name'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "untag" -d 'Remove a name from the vault'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "gc" -d 'Remove what no image needs from the vault'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "fsck" -d 'Check everything in the vault, and list what is damaged'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "vault" -d 'Create a filesystem for the vault, on hosts whose filesystems have no fs-verity'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "keyring" -d 'Manage the kernel\'s keyring for fs-verity signatures'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "policy" -d 'Show what this host requires of images'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "hook" -d 'OCI hooks: called by podman and OCI runtimes when a container starts'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "setup" -d 'Begin in audit mode: write a policy if there is none, and show what is missing'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "enforce" -d 'From now on, refuse what is not sealed'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "audit" -d 'Let everything start again, and log what enforce would refuse'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "deny" -d 'Deny an image, a certificate or a digest, in every mode'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "floors" -d 'Manage the lowest sequence accepted for each name'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "trust" -d 'Manage whom this host trusts'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "report" -d 'Sum up what was refused, and what enforce would refuse'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "runtime" -d 'OCI runtime: verify a container\'s root, then run the runtime named in /etc/layerseal/runtime.toml'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "serve" -d 'Service: mount sealed images for rootless containers; started by layerseal.socket'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "doctor" -d 'Show what this host can enforce, and what it lacks'
complete -c layerseal -n "__fish_layerseal_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l name -d 'Name in the vault [default: HOST/NAME:TAG for a registry; for a layout the tag, or the directory\'s name if that is `latest`]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l trust -d 'Certificates to trust: PEM or DER files, or directories of them' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l binding -d 'What to do with seals that have no binding statement, such as those of other tools' -r -f -a "required\t'Refuse it'
local\t'Accept it, and compare its images with the layers every time'"
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l identity -d 'The name that the seal must be for' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l dates -d 'What to do with certificates that have expired or are not yet valid' -r -f -a "enforce\t'Refuse it'
ignore\t'Accept it, as the kernel does'"
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l seal -d 'Also look for seals in this layout or repository' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l algorithm -d 'Digest algorithm of the objects [default: that of its seals, or sha512]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l require-signature -d 'Refuse an image without a valid seal; implied by --trust'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l algorithm -d 'Digest algorithm' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l inline -d 'Write the digests of config, layers and trees into annotations of the manifest instead'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand seal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l push -d 'Push podman\'s image there first, and seal it there; podman can then start it here under that name without a pull. Without --identity, it is sealed for HOST/NAME' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l cert -d 'The signer\'s certificate, PEM or DER' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l key -d 'The private key: a PEM file, or a URI for an OpenSSL provider, such as pkcs11:token=release;object=key' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l passphrase-file -d 'File with the passphrase of the key or the PIN of the token [default: ask on the terminal]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l algorithm -d 'Digest algorithm' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l identity -d 'A name that the image may run under, without a tag; separate several with commas, or repeat the option' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l sequence -d 'A number that grows with every release' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l format -d 'Format of the seal' -r -f -a "metadata\t'metadata.v1: one annotation for each signature; readers make the EROFS images from the layers'
erofs-alongside\t'erofs-alongside.v1: with the EROFS images; upstream has dropped it'
canonical\t'canonical.v1: the same without the EROFS images'"
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l platform -d 'The instance of a multi-platform image [default: all]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l output -d 'Where to put the seal: a layout or a repository [default: where the image is]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l inline -d 'Write the seal into the image\'s own manifest, which makes a new image with the same tag; for layouts only'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l embed-cert -d 'Put the certificate into the signatures, for hosts that trust its issuer (trust.d/STORE/ca/); the kernel does not use it'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l directory -d 'Print the merged digest of the files in this directory, instead of an image\'s' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l algorithm -d 'Digest algorithm' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l identity -d 'A name that the image may run under, without a tag; separate several with commas, or repeat the option' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l sequence -d 'A number that grows with every release' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l write -d 'Write the files to sign into this directory: ROLE for `fsverity sign`, ROLE.tosign for `openssl smime -sign`' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand digest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l signatures -d 'Directory with the signatures (ROLE.sig, DER) and the file `binding` that `digest --write` wrote' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l format -d 'Format of the seal' -r -f -a "metadata\t'metadata.v1: one annotation for each signature; readers make the EROFS images from the layers'
erofs-alongside\t'erofs-alongside.v1: with the EROFS images; upstream has dropped it'
canonical\t'canonical.v1: the same without the EROFS images'"
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l trust -d 'Verify the signatures with these certificates first' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l output -d 'Where to put the seal: a layout or a repository [default: where the image is]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l trust -d 'Certificates to trust: PEM or DER files, or directories of them' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l binding -d 'What to do with seals that have no binding statement, such as those of other tools' -r -f -a "required\t'Refuse it'
local\t'Accept it, and compare its images with the layers every time'"
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l identity -d 'The name that the seal must be for' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l dates -d 'What to do with certificates that have expired or are not yet valid' -r -f -a "enforce\t'Refuse it'
ignore\t'Accept it, as the kernel does'"
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l seal -d 'Also look for seals in this layout or repository' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l layers -d 'Read the layers of an image in a registry too: otherwise a signed statement that names them is enough'
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l from -d 'Look in this repository [default: those of the image\'s names]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l all -d 'All images in the container store; fails if any lacks a seal that the policy asks for, once the others are done'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand fetch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l seal -d 'Get seals from this OCI layout or repository first' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l all -d 'All images in the container store; fails if any is refused, once the others are done'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l seals-only -d 'Only get the seals; the first start does the rest'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand prepare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand check" -l namespace -d 'Check images as if in this Kubernetes namespace; containers are always checked in their own' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand check" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand check" -l all -d 'All images in the container store, under each of their names'
complete -c layerseal -n "__fish_layerseal_using_subcommand check" -l containers -d 'All containers, with what is mounted in them'
complete -c layerseal -n "__fish_layerseal_using_subcommand check" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand check" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l trust -d 'Certificates to trust: PEM or DER files, or directories of them' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l binding -d 'What to do with seals that have no binding statement, such as those of other tools' -r -f -a "required\t'Refuse it'
local\t'Accept it, and compare its images with the layers every time'"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l identity -d 'The name that the seal must be for' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l dates -d 'What to do with certificates that have expired or are not yet valid' -r -f -a "enforce\t'Refuse it'
ignore\t'Accept it, as the kernel does'"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l seal -d 'Also look for seals in this layout or repository' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l upper -d 'Directory for changes; without it the mount is read-only' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l work -d 'Empty directory on the same filesystem as --upper' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l algorithm -d 'Digest algorithm for images without a seal' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l context -d 'SELinux label for all files, such as system_u:object_r:container_ro_file_t:s0; without it they are unlabeled, and confined processes cannot read them. No effect where SELinux is not enabled' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l verity -d 'Whether the kernel checks every byte' -r -f -a "require\t'It must (`verity=require`)'
off\t'It does not: for hosts without fs-verity. EROFS images are hashed once, and objects not at all'"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l require-signature -d 'Refuse an image without a valid seal; implied by --trust'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l stack -d 'Stack the layers\' EROFS images instead of mounting a single one; shows the same files'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l merged -d 'Mount composefs\' canonical tree, for hosts that boot from an image: the root has the metadata of /usr, /run is empty, and capabilities are the only extended attributes'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand mount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand umount" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand status" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l signatures -d 'Push its seals too'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand export-signatures" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l platform -d 'The instance of a multi-platform image [default: this host\'s]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand images" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand tag" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand untag" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l store -d 'Also keep the images of this container store [default: the one that contains the vault, and those of storage.conf]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l dry-run -d 'Print what would be removed, and remove nothing'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand gc" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l tls-verify -d 'Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]' -r -f -a "true\t''
false\t''"
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l authfile -d 'File with credentials [default: see containers-auth.json(5)]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l cert-dir -d 'Directory with the registry\'s CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l repair -d 'Recreate damaged files from the layers; fetch damaged or missing layers from where the image came from; remove files that cannot be recreated'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand fsck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and not __fish_seen_subcommand_from create help" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and not __fish_seen_subcommand_from create help" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and not __fish_seen_subcommand_from create help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and not __fish_seen_subcommand_from create help" -f -a "create" -d 'Create a file holding an ext4 filesystem with fs-verity, and print the unit that mounts it'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and not __fish_seen_subcommand_from create help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from create" -l size -d 'Its size, in bytes or with K, M, G or T' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from create" -l file -d 'The file that holds it [default: DIR.img]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from create" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from create" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from create" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from help" -f -a "create" -d 'Create a file holding an ext4 filesystem with fs-verity, and print the unit that mounts it'
complete -c layerseal -n "__fish_layerseal_using_subcommand vault; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "add-cert" -d 'Add certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "list" -d 'List the certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "restrict" -d 'Accept no more certificates until the next boot'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and not __fish_seen_subcommand_from add-cert list restrict help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from add-cert" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from restrict" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "add-cert" -d 'Add certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "restrict" -d 'Accept no more certificates until the next boot'
complete -c layerseal -n "__fish_layerseal_using_subcommand keyring; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -f -a "check" -d 'Show which settings apply to an image, and where they come from'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and not __fish_seen_subcommand_from check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -l namespace -d 'For a container in this Kubernetes namespace' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "check" -d 'Show which settings apply to an image, and where they come from'
complete -c layerseal -n "__fish_layerseal_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "createRuntime" -d 'Check the root of a container that an OCI runtime is creating; reads its state from standard input'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "createContainer" -d 'Restore the mount flags that the runtime dropped from a container\'s root; runs in the container\'s namespaces'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "precreate" -d 'Replace podman\'s own mount with a verified one; copies the configuration from standard input to standard output'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "explain" -d 'Explain the last refusal, those of a container, a hook\'s exit code, or the ID of a case'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and not __fish_seen_subcommand_from createRuntime createContainer precreate explain help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createRuntime" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createRuntime" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createRuntime" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createContainer" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createContainer" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from createContainer" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from precreate" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from precreate" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from precreate" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -l last -d 'Show the last N calls that were refused or that `audit` let pass, for this container or for all; newest first' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -l all -d 'List every case with that exit code'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "createRuntime" -d 'Check the root of a container that an OCI runtime is creating; reads its state from standard input'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "createContainer" -d 'Restore the mount flags that the runtime dropped from a container\'s root; runs in the container\'s namespaces'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "precreate" -d 'Replace podman\'s own mount with a verified one; copies the configuration from standard input to standard output'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Explain the last refusal, those of a container, a hook\'s exit code, or the ID of a case'
complete -c layerseal -n "__fish_layerseal_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand setup" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand setup" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand setup" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand setup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand enforce" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand enforce" -l force -d 'Change it even if something would be refused'
complete -c layerseal -n "__fish_layerseal_using_subcommand enforce" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand enforce" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand enforce" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand audit" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand audit" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand audit" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand audit" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand deny" -l reason -d 'Why, for whoever reads the list' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand deny" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand deny" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand deny" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand deny" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and not __fish_seen_subcommand_from list reset help" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and not __fish_seen_subcommand_from list reset help" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and not __fish_seen_subcommand_from list reset help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and not __fish_seen_subcommand_from list reset help" -f -a "list" -d 'List the lowest sequence accepted for each name'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and not __fish_seen_subcommand_from list reset help" -f -a "reset" -d 'Accept older builds under a name again; the next start records the sequence that it accepts'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and not __fish_seen_subcommand_from list reset help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from list" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from reset" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from reset" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from reset" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from reset" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the lowest sequence accepted for each name'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from help" -f -a "reset" -d 'Accept older builds under a name again; the next start records the sequence that it accepts'
complete -c layerseal -n "__fish_layerseal_using_subcommand floors; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and not __fish_seen_subcommand_from list add help" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and not __fish_seen_subcommand_from list add help" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and not __fish_seen_subcommand_from list add help" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and not __fish_seen_subcommand_from list add help" -f -a "list" -d 'List the trust stores, and the certificates in them'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and not __fish_seen_subcommand_from list add help" -f -a "add" -d 'Put certificates into a trust store'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and not __fish_seen_subcommand_from list add help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from list" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from add" -l store -d 'The trust store, a directory of /etc/layerseal/trust.d [default: the one that the policy names]' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from add" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from add" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from add" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the trust stores, and the certificates in them'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from help" -f -a "add" -d 'Put certificates into a trust store'
complete -c layerseal -n "__fish_layerseal_using_subcommand trust; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand report" -l since -d 'Only what was decided since then: 30m, 12h, 7d or 2w ago, a date (2026-11-28), or a date and time in UTC (2026-11-28T06:00)' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand report" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand report" -l prometheus -d 'Print counters since boot in the Prometheus text format, for the node exporter\'s textfile collector'
complete -c layerseal -n "__fish_layerseal_using_subcommand report" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand report" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c layerseal -n "__fish_layerseal_using_subcommand runtime" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand runtime" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand serve" -l socket -d 'Listen on a new socket instead of the one passed by systemd' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand serve" -l idle -d 'Exit after this many seconds without a call' -r
complete -c layerseal -n "__fish_layerseal_using_subcommand serve" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand serve" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand serve" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -l vault -d 'Directory of the vault [default: the policy\'s, or layerseal/ in the graph root of containers-storage]' -r -F
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -l json -d 'Print JSON'
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -s v -l verbose -d 'Print more; twice for debugging'
complete -c layerseal -n "__fish_layerseal_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "pull" -d 'Import an image into the vault'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "seal" -d 'Write an image\'s digests into the image, without signing them'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "sign" -d 'Seal an image and sign the seal'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "digest" -d 'Print the digests that a seal signs, and write the files to sign'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "attach" -d 'Make a seal from signatures made elsewhere'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "verify" -d 'Check an image against its seals'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "fetch" -d 'Fetch the seals of podman\'s images from their registries'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "prepare" -d 'Prepare podman\'s images, so that their first start is quick'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "check" -d 'Show which images and containers would start, and why others would not; writes nothing'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "mount" -d 'Verify an image and mount it'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "umount" -d 'Unmount an image'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "status" -d 'List what is mounted, and who signed it'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "push" -d 'Copy an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "export-signatures" -d 'Copy the seals of an image into a registry or an OCI layout'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "inspect" -d 'Show an image and its seals'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "images" -d 'List the images in the vault'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "tag" -d 'Give an image in the vault a name'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "untag" -d 'Remove a name from the vault'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "gc" -d 'Remove what no image needs from the vault'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "fsck" -d 'Check everything in the vault, and list what is damaged'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "vault" -d 'Create a filesystem for the vault, on hosts whose filesystems have no fs-verity'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "keyring" -d 'Manage the kernel\'s keyring for fs-verity signatures'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "policy" -d 'Show what this host requires of images'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "hook" -d 'OCI hooks: called by podman and OCI runtimes when a container starts'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "setup" -d 'Begin in audit mode: write a policy if there is none, and show what is missing'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "enforce" -d 'From now on, refuse what is not sealed'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "audit" -d 'Let everything start again, and log what enforce would refuse'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "deny" -d 'Deny an image, a certificate or a digest, in every mode'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "floors" -d 'Manage the lowest sequence accepted for each name'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "trust" -d 'Manage whom this host trusts'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "report" -d 'Sum up what was refused, and what enforce would refuse'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "runtime" -d 'OCI runtime: verify a container\'s root, then run the runtime named in /etc/layerseal/runtime.toml'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "serve" -d 'Service: mount sealed images for rootless containers; started by layerseal.socket'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "doctor" -d 'Show what this host can enforce, and what it lacks'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and not __fish_seen_subcommand_from pull seal sign digest attach verify fetch prepare check mount umount status push export-signatures inspect images tag untag gc fsck vault keyring policy hook setup enforce audit deny floors trust report runtime serve doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from vault" -f -a "create" -d 'Create a file holding an ext4 filesystem with fs-verity, and print the unit that mounts it'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from keyring" -f -a "add-cert" -d 'Add certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from keyring" -f -a "list" -d 'List the certificates'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from keyring" -f -a "restrict" -d 'Accept no more certificates until the next boot'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from policy" -f -a "check" -d 'Show which settings apply to an image, and where they come from'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "createRuntime" -d 'Check the root of a container that an OCI runtime is creating; reads its state from standard input'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "createContainer" -d 'Restore the mount flags that the runtime dropped from a container\'s root; runs in the container\'s namespaces'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "precreate" -d 'Replace podman\'s own mount with a verified one; copies the configuration from standard input to standard output'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "explain" -d 'Explain the last refusal, those of a container, a hook\'s exit code, or the ID of a case'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from floors" -f -a "list" -d 'List the lowest sequence accepted for each name'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from floors" -f -a "reset" -d 'Accept older builds under a name again; the next start records the sequence that it accepts'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from trust" -f -a "list" -d 'List the trust stores, and the certificates in them'
complete -c layerseal -n "__fish_layerseal_using_subcommand help; and __fish_seen_subcommand_from trust" -f -a "add" -d 'Put certificates into a trust store'
